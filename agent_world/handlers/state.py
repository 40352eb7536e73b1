"""protocols/state: a whole state by request, as a manifest of transfer packs."""

from __future__ import annotations

from typing import Protocol

from agent_world.errors import ErrorCode, Refused
from agent_world.wire import record
from agent_world.wire.ids import PeerId, WorldId
from agent_world.wire.limits import HEADER_BYTES_MAX
from agent_world.wire.snapshot import GetSnapshotRequest, SnapshotManifest


class SnapshotView(Protocol):
    """States that this node can hand over."""

    async def snapshot(self, height: int | None) -> SnapshotManifest | None:
        """Of the state after ``height``, None for a recent one; None if that state is not held here."""
        ...


class StateHandler:
    """Serves get_snapshot; the packs are blobs."""

    def __init__(self, world_id: WorldId, snapshots: SnapshotView) -> None:
        self._world_id = world_id
        self._snapshots = snapshots

    async def serve_snapshot(self, _peer: PeerId, data: bytes) -> bytes:
        """get_snapshot."""
        request = record.from_bytes(GetSnapshotRequest, data, size_max=HEADER_BYTES_MAX)
        # [REJECT] T7: the request is for this world.
        if request.world_id != self._world_id:
            raise Refused(ErrorCode.BAD_REQUEST, f"no world {request.world_id!r} here", rule="T7")
        manifest = await self._snapshots.snapshot(request.height)
        # [REJECT] T8: the state of that height is held here.
        if manifest is None:
            raise Refused(ErrorCode.NOT_FOUND, f"the state of height {request.height} is not held here", rule="T8")
        return record.to_bytes(manifest)
