"""Messages of protocols/state: a whole state as packs of its nodes (D6)."""

from __future__ import annotations

import attrs

from agent_world.wire.cid import Cid
from agent_world.wire.ids import U16, U64, WorldId
from agent_world.wire.record import V1


@attrs.frozen(slots=True, kw_only=True)
class StateChunkRef:
    """One transfer pack of a snapshot."""

    content: Cid
    """Link to the StatePack."""
    size_bytes: U64


@attrs.frozen(slots=True, kw_only=True)
class SnapshotManifest:
    """The state after a block, and the packs that hold its nodes. Equal states give equal manifests on every node.

    It proves nothing: who uses it has a certified block of ``height`` that names ``state_root``.
    """

    v: U16 = U16(V1)
    world_id: WorldId
    epoch: U64
    """Of the block at ``height``; 0 for the genesis."""
    height: U64
    state_root: Cid
    chunks: tuple[StateChunkRef, ...]


@attrs.frozen(slots=True, kw_only=True)
class StatePack:
    """Nodes and large values of a state, as they are stored, in the order of a walk from the root down."""

    v: U16 = U16(V1)
    nodes: tuple[bytes, ...]


@attrs.frozen(slots=True, kw_only=True)
class GetSnapshotRequest:
    """get_snapshot; the answer is a SnapshotManifest."""

    world_id: WorldId
    height: U64 | None
    """Of the state; none for a recent one of the server's choice."""
