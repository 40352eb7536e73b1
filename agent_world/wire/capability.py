"""Message of protocols/dht: what a node can do, signed with its node key."""

from __future__ import annotations

import attrs

from agent_world.wire.hello import Role
from agent_world.wire.ids import U16, U64, PeerId, TimeMs, WorldId
from agent_world.wire.record import V1


@attrs.frozen(slots=True, kw_only=True)
class CapabilityRecord:
    """Body of a ``Signed`` by the node key behind ``peer_id``; of several, the highest sequence counts."""

    v: U16 = U16(V1)
    world_id: WorldId
    peer_id: PeerId
    from_height: U64
    """The first height whose block this node can give."""
    to_height: U64
    """The last one, when the record was made."""
    role: Role
    storage_used_bytes: U64
    """Content kept."""
    storage_free_bytes: U64
    """Content that it would still take; 0 for a node that stores for nobody else."""
    issued_at_ms: TimeMs
    sequence: U64
    """Rises with every record of this node."""
