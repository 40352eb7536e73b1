"""Peers that are asked without a node: connected, greeted, questioned. What they answer is not checked here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import trio

from agent_world.errors import ErrorCode, Refused
from agent_world.handlers.blob import open_blob
from agent_world.handlers.head import open_certified
from agent_world.handlers.hello import HelloHandler
from agent_world.handlers.membership import open_boundaries
from agent_world.net.interface import DistributedNetwork
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobRequest
from agent_world.wire.block import (
    BlockBundle,
    GetBlockRequest,
    GetJournalSegmentRequest,
    GetJournalSegmentResponse,
    GetReceiptSegmentRequest,
    GetReceiptSegmentResponse,
)
from agent_world.wire.cid import ContentHash
from agent_world.wire.genesis import Genesis
from agent_world.wire.head import CertifiedHead, GetWorldHeadRequest, WorldHead
from agent_world.wire.hello import PROTOCOL_VERSIONS, Hello, Role
from agent_world.wire.ids import U64, ActorId, Hash32, PeerId
from agent_world.wire.limits import RPC_BODY_BYTES_MAX
from agent_world.wire.membership import EpochBoundary, GetBoundariesRequest
from agent_world.wire.submit import (
    GetActorRequest,
    GetActorResponse,
    GetReceiptRequest,
    GetReceiptResponse,
    SubmitActionRequest,
    SubmitActionResponse,
)
from agent_world.world.genesis import genesis_hash, genesis_head

T = TypeVar("T")

CONNECT_S: Final = 10.0
"""Longest wait for a connection, redials included."""
_LOOK_EVERY_S: Final = 0.02


class AskedPeers:
    """Peers by their address. This side says to be an observer at the genesis, who listens nowhere."""

    def __init__(self, network: DistributedNetwork, genesis: Genesis, addresses: Iterable[tuple[PeerId, str]]) -> None:
        self._network = network
        self._world_id = genesis.world_id
        self._hello = HelloHandler(self._own_hello, lambda _peer, _hello: None)
        self._genesis_hash = genesis_hash(genesis)
        self._genesis_head = genesis_head(genesis)
        self._greeted: set[PeerId] = set()
        self._addresses: dict[PeerId, list[str]] = {}
        for peer, address in addresses:
            self._addresses.setdefault(peer, []).append(address)
        network.serve(rpc.HELLO, self._hello.serve)

    @property
    def known(self) -> Sequence[PeerId]:
        """All peers, in the order given."""
        return tuple(self._addresses)

    @property
    def genesis_head(self) -> WorldHead:
        """The head of a world without blocks."""
        return self._genesis_head

    def _own_hello(self) -> Hello:
        return Hello(
            versions=PROTOCOL_VERSIONS,
            world_id=self._world_id,
            genesis_hash=self._genesis_hash,
            role=Role.OBSERVER,
            validator=None,
            listen=(),
            head=self._genesis_head,
            peers=(),
        )

    def forget(self, peer: PeerId) -> None:
        """Do not connect to this peer any more."""
        self._addresses.pop(peer, None)
        self._network.forget(peer)

    async def greet(self, peer: PeerId) -> None:
        """Have a connection on which hellos were exchanged; raises Refused, with a rule for a foreigner."""
        for address in self._addresses[peer]:
            self._network.dial(peer, address)
        with trio.move_on_after(CONNECT_S):
            while not self._is_connected(peer):
                self._greeted.discard(peer)
                await trio.sleep(_LOOK_EVERY_S)
        if not self._is_connected(peer):
            tried = ", ".join(self._addresses[peer])
            raise Refused(ErrorCode.NOT_AVAILABLE, f"no connection to {tried} in {CONNECT_S:.0f} s")
        if peer not in self._greeted:
            answer = await self._network.request(peer, rpc.HELLO, record.to_bytes(self._own_hello()))
            self._hello.judge(peer, answer)
            self._greeted.add(peer)

    def _is_connected(self, peer: PeerId) -> bool:
        return any(info.peer == peer for info in self._network.peers())

    async def head(self, peer: PeerId) -> CertifiedHead:
        """The peer's head, which repeats its block; raises RemoteError, Refused."""
        request = record.to_bytes(GetWorldHeadRequest(world_id=self._world_id))
        return open_certified(await self._network.request(peer, rpc.GET_WORLD_HEAD, request), self._world_id)

    async def boundaries(self, peer: PeerId, from_height: int) -> tuple[EpochBoundary, ...]:
        """The peer's next boundaries; raises RemoteError, Refused."""
        request = GetBoundariesRequest(world_id=self._world_id, from_height=U64(from_height))
        return open_boundaries(await self._network.request(peer, rpc.GET_BOUNDARIES, record.to_bytes(request)))

    async def block(self, peer: PeerId, height: int) -> BlockBundle:
        """The peer's block of a height; raises RemoteError, Refused."""
        request = record.to_bytes(GetBlockRequest(world_id=self._world_id, height=U64(height)))
        answer = await self._network.request(peer, rpc.GET_BLOCK, request)
        return record.from_bytes(BlockBundle, answer, size_max=RPC_BODY_BYTES_MAX)

    async def blob(self, peer: PeerId, content: ContentHash) -> bytes:
        """Content by its hash; raises RemoteError for other bytes, Refused."""
        request = record.to_bytes(FetchBlobRequest(content_hash=content))
        return open_blob(await self._network.request(peer, rpc.FETCH_BLOB, request), content)

    async def receipt_segment(self, peer: PeerId, height: int) -> GetReceiptSegmentResponse:
        """Where the receipts of a height are; raises RemoteError, Refused."""
        request = GetReceiptSegmentRequest(world_id=self._world_id, from_event_id=None, height=U64(height))
        return await self.ask(peer, rpc.GET_RECEIPT_SEGMENT, request, GetReceiptSegmentResponse)

    async def journal_segment(self, peer: PeerId, from_event_id: int) -> GetJournalSegmentResponse:
        """Where the journal is from an event on; raises RemoteError, Refused."""
        request = GetJournalSegmentRequest(world_id=self._world_id, from_event_id=U64(from_event_id), height=None)
        return await self.ask(peer, rpc.GET_JOURNAL_SEGMENT, request, GetJournalSegmentResponse)

    async def submit(self, peer: PeerId, action: bytes) -> Hash32:
        """Hand in an encoded signed action; raises RemoteError, Refused with the rule that it breaks."""
        request = SubmitActionRequest(action=action)
        return (await self.ask(peer, rpc.SUBMIT_ACTION, request, SubmitActionResponse)).action_id

    async def receipt(self, peer: PeerId, action_id: Hash32) -> GetReceiptResponse:
        """What the peer says became of an action; raises RemoteError, Refused while it is not committed there."""
        request = GetReceiptRequest(world_id=self._world_id, action_id=action_id)
        return await self.ask(peer, rpc.GET_RECEIPT, request, GetReceiptResponse)

    async def actor(self, peer: PeerId, actor_id: ActorId) -> GetActorResponse:
        """What the peer says of an actor's nonces; raises RemoteError, Refused for one it does not know."""
        request = GetActorRequest(world_id=self._world_id, actor_id=actor_id)
        return await self.ask(peer, rpc.GET_ACTOR, request, GetActorResponse)

    async def ask(self, peer: PeerId, method: str, request: object, kind: type[T]) -> T:
        """What the peer answers to any request that is answered in one piece; raises RemoteError, Refused."""
        answer = await self._network.request(peer, method, record.to_bytes(request))
        return record.from_bytes(kind, answer, size_max=RPC_BODY_BYTES_MAX)
