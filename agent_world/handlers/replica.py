"""protocols/replica: what a storage node keeps of the content that the world names, and requests to keep or give up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from agent_world.errors import ErrorCode, Refused, RemoteError
from agent_world.wire import record
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId, WorldId
from agent_world.wire.limits import REPLICA_CONTENTS_MAX, RPC_INLINE_BYTES_MAX
from agent_world.wire.replica import Holding, ReplicaAsk, ReplicaRequest, ReplicaResponse


class ReplicaHost(Protocol):
    """What the handler needs of its node."""

    @property
    def world_id(self) -> WorldId:
        """Of the node's world."""
        ...

    def is_storage(self, peer: PeerId) -> bool:
        """Whether a connected peer has said that it stores."""
        ...

    def takes_part(self) -> bool:
        """Whether this node stores for the world and leaves content to others."""
        ...

    def may_plan(self, peer: PeerId, content: Cid) -> bool:
        """Whether the peer may plan copies of this content, as far as this node sees."""
        ...

    def has_room(self, content: Cid, *, is_relief: bool) -> bool:
        """Whether this content can be taken; of a relief, whether this node is idle enough."""
        ...

    def is_pledged(self, content: Cid) -> bool:
        """Whether this node has promised to keep it for now, or may have before it was started."""
        ...

    def is_leaving(self, content: Cid) -> bool:
        """Whether this node is about to give it up."""
        ...

    def hold(self, content: Cid, source: PeerId | None) -> None:
        """Fetch it and keep it."""
        ...

    def release(self, content: Cid) -> bool:
        """Give it up after others have shown that they hold it; False if too many wait for that."""
        ...

    def pledge(self, content: Cid) -> None:
        """Keep it for the time of a pledge."""
        ...

    def answer(self, contents: Sequence[Cid]) -> ReplicaResponse:
        """What this node keeps of these."""
        ...


class ReplicaHandler:
    """Serves replica for one node."""

    def __init__(self, host: ReplicaHost) -> None:
        self._host = host
        self.count: Callable[[str], None] = lambda _name: None
        """Told the name of everything that is answered or refused."""

    async def serve(self, peer: PeerId, data: bytes) -> bytes:
        """replica."""
        try:
            request = self._judge(peer, data)
        except Refused as error:
            self.count(f"replicas.refused.{error.rule}")
            raise
        self.count(f"replicas.asked.{request.ask.value}")
        return record.to_bytes(self._host.answer(request.contents))

    def _judge(self, peer: PeerId, data: bytes) -> ReplicaRequest:
        request = record.from_bytes(ReplicaRequest, data, size_max=RPC_INLINE_BYTES_MAX)
        # [REJECT] R1: the request is for this world.
        if request.world_id != self._host.world_id:
            raise Refused(ErrorCode.BAD_REQUEST, f"no world {request.world_id!r} here", rule="R1")
        # [REJECT] R2: a status asks about a bounded number of contents, everything else about one.
        most = REPLICA_CONTENTS_MAX if request.ask is ReplicaAsk.STATUS else 1
        if not 1 <= len(request.contents) <= most:
            raise Refused(ErrorCode.BAD_REQUEST, f"{len(request.contents)} contents", rule="R2")
        if request.ask is not ReplicaAsk.STATUS:
            self._act(peer, request, request.contents[0])
        return request

    def _act(self, peer: PeerId, request: ReplicaRequest, content: Cid) -> None:
        host, ask = self._host, request.ask
        # [REJECT] R3: who wants something done has said in its hello that it stores.
        if not host.is_storage(peer):
            raise Refused(ErrorCode.UNAUTHORIZED, "only storage nodes plan copies", rule="R3")
        # [IGNORE] R4: this node stores, and does not keep everything anyhow; a promise to keep it gives.
        if ask is not ReplicaAsk.KEEP and not host.takes_part():
            raise Refused(ErrorCode.UNSUPPORTED, "this node does not leave content to others", rule="R4")
        (holding,) = host.answer([content]).holdings
        # [IGNORE] R5: the world names this content in a block committed here.
        if holding is Holding.UNKNOWN:
            raise Refused(ErrorCode.NOT_AVAILABLE, "no block committed here names this content", rule="R5")
        if ask is ReplicaAsk.KEEP:
            # [IGNORE] R6: what is to be kept is held, and not about to be given up.
            if holding not in (Holding.HELD, Holding.BOUND) or host.is_leaving(content):
                raise Refused(ErrorCode.NOT_AVAILABLE, "it is not kept here, or not for long", rule="R6")
            host.pledge(content)
            return
        # [IGNORE] R7: of the storage nodes that this node knows the asker is among the first by weight.
        if not host.may_plan(peer, content):
            raise Refused(ErrorCode.NOT_AVAILABLE, "others plan for this content, as seen from here", rule="R7")
        if ask is ReplicaAsk.RELEASE:
            self._release(content, holding)
        elif holding is Holding.NAMED:
            # [IGNORE] R8: there is room for what is to be held; a relief is taken by an idle node only.
            if not host.has_room(content, is_relief=ask is ReplicaAsk.RELIEVE):
                raise Refused(ErrorCode.BUSY, "there is no room for it here", rule="R8")
            host.hold(content, request.source)

    def _release(self, content: Cid, holding: Holding) -> None:
        if holding in (Holding.NAMED, Holding.COMING):
            return  # nothing is held here that could be given up
        # [IGNORE] R10: this node has not promised to keep it, and not too many wait to be given up.
        if self._host.is_pledged(content):
            raise Refused(ErrorCode.BUSY, "it was promised to be kept for now", rule="R10")
        # [IGNORE] R9: what is to be given up is wanted by nothing else here.
        if holding is Holding.BOUND:
            raise Refused(ErrorCode.NOT_AVAILABLE, "a pin or a file of this node wants it", rule="R9")
        if not self._host.release(content):
            raise Refused(ErrorCode.BUSY, "too much is being given up already", rule="R10")


def open_replicas(answer: bytes, asked: int) -> ReplicaResponse:
    """The answer about ``asked`` contents; raises RemoteError."""
    response = record.from_bytes(ReplicaResponse, answer, size_max=RPC_INLINE_BYTES_MAX)
    # [REJECT] R11: there is one holding for each content, and no more is free than there is.
    if len(response.holdings) != asked or response.free_bytes > response.quota_bytes:
        raise RemoteError("R11", f"{len(response.holdings)} holdings of {asked} contents, or too much room")
    return response


def check_promise(answer: ReplicaResponse) -> None:
    """Whether an answer to ``keep``, opened, promises anything; raises Refused."""
    # [IGNORE] R12: who has promised to keep a content says from then on that it is bound.
    if answer.holdings[0] is not Holding.BOUND:
        raise Refused(ErrorCode.NOT_AVAILABLE, f"it says {answer.holdings[0].value}, and so no promise", rule="R12")
