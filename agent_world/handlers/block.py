"""protocols/block: announcements by gossip; blocks with certificate and bodies by request."""

from __future__ import annotations

from collections.abc import Callable

from agent_world.errors import ErrorCode, Refused, RemoteError
from agent_world.handlers.views import ChainView
from agent_world.net.interface import Verdict
from agent_world.wire import record
from agent_world.wire.block import (
    BlockAnnounce,
    BlockBundle,
    GetBlockRequest,
    GetBlocksRequest,
    GetBlocksResponse,
)
from agent_world.wire.ids import PeerId, WorldId
from agent_world.wire.limits import HEADER_BYTES_MAX, RANGE_BLOCKS_MAX, RANGE_BYTES_MAX

ANNOUNCE_WINDOW_BLOCKS = 1_024
"""An announcement further ahead than this proves nothing and is dropped; real lag is learnt from certified heads."""


class BlockHandler:
    """Serves the committed chain; an announced height is a hint handed to ``hinted``."""

    def __init__(self, chain: ChainView, hinted: Callable[[PeerId, int], None]) -> None:
        self._chain = chain
        self._hinted = hinted

    def validate(self, publisher: PeerId, data: bytes) -> Verdict:
        """Gossip on ``aw.<world>.block``."""
        try:
            announce = record.from_bytes(BlockAnnounce, data, size_max=HEADER_BYTES_MAX)
            self._check_announce(announce)
        except RemoteError:
            return Verdict.REJECT
        height = self._chain.height
        # [IGNORE] B2: a height that is committed here already.
        if announce.height <= height:
            return Verdict.IGNORE
        # [IGNORE] B3: a height beyond the announce window.
        if announce.height > height + ANNOUNCE_WINDOW_BLOCKS:
            return Verdict.IGNORE
        self._hinted(publisher, announce.height)
        return Verdict.ACCEPT

    def _check_announce(self, announce: BlockAnnounce) -> None:
        # [REJECT] B1: the announcement is of the world this topic names.
        if announce.world_id != self._chain.world_id:
            raise RemoteError("B1", f"world {announce.world_id!r}")

    async def serve_block(self, _peer: PeerId, data: bytes) -> bytes:
        """get_block."""
        request = record.from_bytes(GetBlockRequest, data, size_max=HEADER_BYTES_MAX)
        self._check_world(request.world_id)
        return record.to_bytes(self._bundle(request.height))

    async def serve_blocks(self, _peer: PeerId, data: bytes) -> bytes:
        """get_blocks."""
        request = record.from_bytes(GetBlocksRequest, data, size_max=HEADER_BYTES_MAX)
        self._check_world(request.world_id)
        # [REJECT] B6: the range is not empty or reversed.
        if not 1 <= request.from_height <= request.to_height:
            raise Refused(ErrorCode.BAD_REQUEST, "the range of heights is empty", rule="B6")
        bundles = [self._bundle(request.from_height)]
        size = _size(bundles[0])
        last = min(request.to_height, self._chain.height, request.from_height + RANGE_BLOCKS_MAX - 1)
        for height in range(request.from_height + 1, last + 1):
            bundle = self._bundle(height)
            size += _size(bundle)
            if size > RANGE_BYTES_MAX:
                break
            bundles.append(bundle)
        return record.to_bytes(GetBlocksResponse(bundles=tuple(bundles)))

    def _check_world(self, world_id: WorldId) -> None:
        # [REJECT] B4: the request is for this world.
        if world_id != self._chain.world_id:
            raise Refused(ErrorCode.BAD_REQUEST, f"no world {world_id!r} here", rule="B4")

    def _bundle(self, height: int) -> BlockBundle:
        bundle = self._chain.bundle(height)
        # [REJECT] B5: the height is committed here.
        if bundle is None:
            raise Refused(ErrorCode.NOT_FOUND, f"height {height} is not committed here", rule="B5")
        return bundle


def _size(bundle: BlockBundle) -> int:
    return len(bundle.block) + len(bundle.certificate) + sum(map(len, bundle.actions))
