"""Which validator set decides from which height on; the directory of a world is one such term after the other."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from agent_world.consensus.validators import ValidatorSet
from agent_world.wire.ids import U64, Hash32


@attrs.frozen(slots=True, kw_only=True)
class MembershipTerm:
    """One validator set as the chain has decided it."""

    version: U64
    from_height: U64
    prev_hash: Hash32 | None
    """Hash of the set before; None for the genesis."""
    validators: ValidatorSet

    def successor(self, from_height: U64, validators: ValidatorSet) -> MembershipTerm:
        """The term after this one."""
        return MembershipTerm(
            version=U64(self.version + 1),
            from_height=from_height,
            prev_hash=self.validators.hash,
            validators=validators,
        )


TermOf = Callable[[int], MembershipTerm | None]
"""The term of a version; None for one that the chain known here has not reached."""


def genesis_term(validators: ValidatorSet) -> MembershipTerm:
    """The first term: it decides the first block."""
    return MembershipTerm(version=U64(0), from_height=U64(1), prev_hash=None, validators=validators)
