"""Evidence of equivocation: payload of ``evidence.report`` and gossip on ``aw.<world>.consensus.evidence``."""

from __future__ import annotations

from enum import StrEnum

import attrs

from agent_world.wire.ids import U16, ValidatorId, WorldId
from agent_world.wire.record import V1


class EvidenceKind(StrEnum):
    """Which message was signed twice for one height and round."""

    DOUBLE_PROPOSAL = "double_proposal"
    DOUBLE_PREVOTE = "double_prevote"
    DOUBLE_PRECOMMIT = "double_precommit"


@attrs.frozen(slots=True, kw_only=True)
class EquivocationEvidence:
    """Two messages of one validator of which an honest one signs at most one.

    It holds no time and no reporter, so that all who see the same two messages have the same evidence.
    """

    v: U16 = U16(V1)
    world_id: WorldId
    validator_id: ValidatorId
    kind: EvidenceKind
    message_a: bytes
    """Encoded Signed proposal or vote."""
    message_b: bytes
    """Another one for the same height, round and step, above ``message_a`` in the order of bytes."""
