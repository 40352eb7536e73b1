"""What the vote guard is asked and what it makes durable: records of a node's own files, never sent."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.errors import DataError, DecodeError
from agent_world.wire import record
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import Step
from agent_world.wire.ids import U16, U32, U64, Hash32
from agent_world.wire.limits import HEADER_BYTES_MAX, KIB, PROPOSAL_BYTES_MAX, VALIDATORS_MAX, VOTE_BYTES_MAX
from agent_world.wire.record import V1

GUARD_RECORD_BYTES_MAX: Final = PROPOSAL_BYTES_MAX + HEADER_BYTES_MAX + VALIDATORS_MAX * VOTE_BYTES_MAX + 32 * KIB
"""One guard record: a signed proposal, and a valid value of a header, up to 512 action hashes and one vote a member."""

STEP_ORDER: Final = {Step.PROPOSE: 0, Step.PREVOTE: 1, Step.PRECOMMIT: 2}
"""The order in which a validator signs within a round."""


@attrs.frozen(slots=True, kw_only=True)
class Lock:
    """The block this validator precommitted last, and the round it did so in."""

    round: U32
    block_hash: Hash32


@attrs.frozen(slots=True, kw_only=True)
class ValidValue:
    """The block with prevotes of the required stake in the highest round known: what this node would propose again."""

    round: U32
    block_hash: Hash32
    block: bytes
    """Encoded WorldBlock."""
    actions: tuple[ContentHash, ...]
    proof: tuple[bytes, ...]
    """Encoded Signed prevotes of ``round`` for ``block_hash``, stake >= required."""


@attrs.frozen(slots=True, kw_only=True)
class GuardEntry:
    """One signature that was given."""

    height: U64
    round: U32
    step: Step
    signed: bytes
    """Encoded Signed, as sent."""


@attrs.frozen(slots=True, kw_only=True)
class GuardRecord:
    """One durable step of the guard: what was signed, with the lock and the valid value after it."""

    v: U16 = U16(V1)
    sequence: U64
    """1 for a guard's first record, then without a gap."""
    sign_floor: U64
    """Nothing new is signed at this height or below."""
    watching: bool = False
    """Nothing new is signed at all until a record without it."""
    entry: GuardEntry | None
    """None for a record that only moves the floor, and where a rewritten file starts without any."""
    lock: Lock | None
    valid: ValidValue | None

    @property
    def height(self) -> int:
        """Highest height that this record forbids to sign anything new at: the entry's, or the floor."""
        return max(self.sign_floor, 0 if self.entry is None else self.entry.height)

    def to_bytes(self) -> bytes:
        """Canonical bytes."""
        return record.to_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> GuardRecord:
        """Strict inverse of ``to_bytes``; raises DataError."""
        try:
            return record.from_bytes(cls, data, size_max=GUARD_RECORD_BYTES_MAX)
        except DecodeError as error:
            raise DataError(f"a guard record is damaged: {error}") from None


@attrs.frozen(slots=True, kw_only=True)
class SignRequest:
    """What the engine wants signed, with the lock and the valid value that hold once it is."""

    height: int
    round: U32
    step: Step
    body: bytes
    """Encoded Proposal or Vote."""
    block_hash: Hash32 | None
    """The block proposed or voted for; None for nil."""
    lock: Lock | None
    valid: ValidValue | None
    unlock_round: int | None = None
    """For a prevote against the lock: the round whose prevotes of the required stake allow it."""
