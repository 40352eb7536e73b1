"""protocols/head: certified heads by gossip and by request."""

from __future__ import annotations

from collections.abc import Callable

from agent_world.consensus.light import OtherSet
from agent_world.crypto.hashing import hash32
from agent_world.errors import ErrorCode, Refused, RemoteError
from agent_world.handlers.views import ChainView
from agent_world.net.interface import Verdict
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.head import CertifiedHead, GetWorldHeadRequest
from agent_world.wire.ids import PeerId, WorldId
from agent_world.wire.limits import CERTIFICATE_BYTES_MAX, HEADER_BYTES_MAX

_HEAD_BYTES_MAX = CERTIFICATE_BYTES_MAX + 2 * HEADER_BYTES_MAX


def open_certified(data: bytes, world_id: WorldId) -> CertifiedHead:
    """A head that fits its block, its certificate not looked at yet; raises RemoteError."""
    certified = record.from_bytes(CertifiedHead, data, size_max=_HEAD_BYTES_MAX)
    head = certified.head
    # [REJECT] H1: the head is of this world.
    if head.world_id != world_id:
        raise RemoteError("H1", f"a head of world {head.world_id!r}")
    if head.height == 0:
        return certified
    block = record.from_bytes(WorldBlock, certified.block, size_max=HEADER_BYTES_MAX)
    # [REJECT] H2: the head repeats its block.
    told = (block.world_id, block.height, hash32(certified.block), block.state_root, block.timestamp_ms)
    if told != (head.world_id, head.height, head.block_hash, head.state_root, head.timestamp_ms):
        raise RemoteError("H2", f"the head of height {head.height} differs from its block")
    return certified


class HeadHandler:
    """Judges heads; one that proves more than the committed height is handed to ``learned``."""

    def __init__(self, chain: ChainView, learned: Callable[[PeerId, CertifiedHead], None]) -> None:
        self._chain = chain
        self._learned = learned
        self.unproved: Callable[[PeerId], None] = lambda _peer: None
        """Told who published a head of a validator set that is not proved here yet."""

    def open_head(self, data: bytes) -> CertifiedHead:
        """A head that is certified, or of height 0; raises RemoteError, or OtherSet for a set not proved yet."""
        certified = open_certified(data, self._chain.world_id)
        head = certified.head
        # [REJECT] H3: the certificate commits that block.
        if head.height > self._chain.height:
            self._chain.check_head(certified.block, certified.certificate, head.height)
        return certified

    def validate(self, publisher: PeerId, data: bytes) -> Verdict:
        """Gossip on ``aw.<world>.head``."""
        try:
            certified = self.open_head(data)
        # [IGNORE] H5: decided by a set that is proved here.
        except OtherSet:
            self.unproved(publisher)
            return Verdict.IGNORE
        except RemoteError:
            return Verdict.REJECT
        # [IGNORE] H4: a head that proves nothing new.
        if certified.head.height <= self._chain.height:
            return Verdict.IGNORE
        self._learned(publisher, certified)
        return Verdict.ACCEPT

    async def serve_head(self, _peer: PeerId, data: bytes) -> bytes:
        """get_world_head."""
        request = record.from_bytes(GetWorldHeadRequest, data, size_max=HEADER_BYTES_MAX)
        if request.world_id != self._chain.world_id:
            raise Refused(ErrorCode.BAD_REQUEST, f"no world {request.world_id!r} here", rule="H1")
        return record.to_bytes(self._chain.certified_head())
