"""Message of protocols/dht: which validators a world has, for whoever does not know them yet."""

from __future__ import annotations

import attrs

from agent_world.wire.consensus import ValidatorSetRecord
from agent_world.wire.ids import U16, U64, Hash32, TimeMs, ValidatorId, WorldId
from agent_world.wire.record import V1


@attrs.frozen(slots=True, kw_only=True)
class MembershipDirectorySnapshot:
    """Body of a ``Signed`` by the key of the validator ``requester_id``; of several, the highest version counts."""

    v: U16 = U16(V1)
    world_id: WorldId
    version: U64
    """How often the chain has changed the set; 0 is the set of the genesis."""
    from_height: U64
    """The first height that this set decides."""
    prev_hash: Hash32 | None
    """BLAKE3 of the ValidatorSetRecord of the version before; none for version 0."""
    validators: ValidatorSetRecord
    requester_id: ValidatorId
    """A member of the set: who says so."""
    requested_at_ms: TimeMs
