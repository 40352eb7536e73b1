"""What a node needs of a network (D8); implemented by ``net.libp2p`` over sockets and ``net.memory`` with a seed.

Everything a peer sends is untrusted bytes; ``peer`` is always the authenticated id of the other end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import attrs

from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId

if TYPE_CHECKING:
    from agent_world.net.gate import Gate


class Verdict(Enum):
    """Three-way validation of a gossip message."""

    ACCEPT = "accept"
    """Deliver and forward."""
    IGNORE = "ignore"
    """Drop without blame: stale, duplicate, not judgeable now."""
    REJECT = "reject"
    """Drop; the sender broke a rule."""


@attrs.frozen(slots=True)
class GossipMessage:
    """One accepted message: who published it (not who forwarded it) and its bytes."""

    topic: str
    source: PeerId
    data: bytes


@attrs.frozen(slots=True)
class PeerUp:
    """A connection to this peer is ready for requests."""

    peer: PeerId
    address: str
    """Remote multiaddr as seen here, without /p2p; where it listens is told by its hello."""
    outbound: bool


@attrs.frozen(slots=True)
class PeerDown:
    """The last connection to this peer has ended."""

    peer: PeerId


@attrs.frozen(slots=True)
class PeerInfo:
    """A connected peer for status pages; latency is that of the last request, None before the first."""

    peer: PeerId
    address: str
    outbound: bool
    connected_s: float
    requests: int
    latency_ms: float | None


PeerEvent = PeerUp | PeerDown
Validator = Callable[[PeerId, bytes], Verdict]
"""Synchronous, quick, without side effects that matter twice: (publisher, data) -> verdict."""
RequestHandler = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Answers one request; raises Refused (sent as is) or another AgentWorldError (sent by its wire code)."""
BodyHandler = Callable[[PeerId, bytes], AsyncIterator[bytes]]
"""Answers one request with a body: an async generator of parts, each of 1 to BODY_PART_BYTES_MAX bytes. An error before
its first part is sent as of a RequestHandler; after it the body breaks off."""
MessageHandler = Callable[[PeerId, bytes], Awaitable[None]]
"""Takes one one-way message; raises RemoteError for what breaks the protocol."""


class Subscription(Protocol):
    """A subscriber's own bounded queue; when full the oldest is dropped and counted."""

    topic: str

    def __aiter__(self) -> AsyncIterator[GossipMessage]: ...
    def drain(self) -> list[GossipMessage]:
        """All waiting messages, oldest first; empties the queue."""
        ...


class BlockSource(Protocol):
    """What a network answers bitswap from (``Libp2pNetwork.serve_bitswap``).

    The network in memory has no counterpart: nobody of another IPFS implementation is ever there.
    """

    def has_block(self, digest: ContentHash) -> bool:
        """Whether ``read_block`` would give it now."""
        ...

    def read_block(self, digest: ContentHash) -> bytes | None:
        """Verified bytes of at most 1 MiB; None for what is not here or must not be given."""
        ...


class DistributedNetwork(Protocol):
    """The network as one node sees it. Use inside its ``async with``/run scope only."""

    peer_id: PeerId
    gate: Gate
    """Rates, scores and bans of peers, and figures of what they sent."""

    def listen_addresses(self) -> tuple[str, ...]:
        """Own multiaddrs without /p2p, with the ports really bound."""
        ...

    def peers(self) -> Sequence[PeerInfo]:
        """Connected peers, ascending by id."""
        ...

    def peer_events(self) -> AsyncIterator[PeerEvent]:
        """Connects and disconnects from now on; first a PeerUp for every peer already connected."""
        ...

    def dial(self, peer: PeerId, address: str) -> None:
        """Keep a connection to this peer: dial in the background, again after a loss, with back-off."""
        ...

    def forget(self, peer: PeerId) -> None:
        """Stop keeping the connection and drop its address."""
        ...

    async def disconnect(self, peer: PeerId) -> None:
        """Close the connections to this peer now; nothing if there is none."""
        ...

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip; a hint only, may be lost. Raises LocalError above GOSSIP_BYTES_MAX."""
        ...

    async def subscribe(self, topic: str, validator: Validator) -> Subscription:
        """Join a topic; own messages are not delivered back."""
        ...

    def serve(self, method: str, handler: RequestHandler) -> None:
        """Answer requests of this method; the last registration wins."""
        ...

    def on_message(self, channel: str, handler: MessageHandler) -> None:
        """Take one-way messages of this channel; the last registration wins."""
        ...

    async def request(self, peer: PeerId, method: str, payload: bytes, *, timeout_s: float | None = None) -> bytes:
        """Ask one peer. Raises Refused with the peer's code, ERR_TIMEOUT after the deadline, or
        ERR_NOT_AVAILABLE when it is not connected; never asks anybody else (K-1.2)."""
        ...

    def serve_body(self, method: str, handler: BodyHandler) -> None:
        """Answer requests of this method with a streamed body; the last registration wins."""
        ...

    def open_body(
        self, peer: PeerId, method: str, payload: bytes, *, timeout_s: float, part_timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Ask one peer for a body; inside the block its parts are read in order, as fast as the reader takes them.

        Raises Refused as ``request`` does, on entering and while reading: ERR_TIMEOUT after ``timeout_s`` in all or
        ``part_timeout_s`` without a part, ERR_NOT_AVAILABLE for a body that breaks off. Leaving early ends the body.
        Keep reading: a body whose reader pauses for seconds may be lost.
        """
        ...

    def send(self, peer: PeerId, channel: str, payload: bytes) -> bool:
        """One-way message on the kept stream of ``channel``, in order; False if it could not be queued.

        Never waits; messages sent one after the other leave in one write.
        """
        ...

    def counters(self) -> Mapping[str, int]:
        """Named counters of messages, bytes and drops by reason."""
        ...


class DistributedDht(Protocol):
    """Index of providers and of signed records; a cache of hints whose reader checks what it gets."""

    async def put_record(self, key: str, value: bytes) -> None:
        """Store a record under a key of ``wire.rpc.dht_*``; the higher head wins at every holder.

        Raises RemoteError if the rules refuse it, Unavailable if nobody took it.
        """
        ...

    async def get_record(self, key: str, *, timeout_s: float, at: PeerId | None = None) -> bytes | None:
        """The best record found in time; None if nobody has one. Raises Unavailable if nobody answered.

        ``at`` is the one peer to ask, for what nobody knows better than that peer.
        """
        ...

    async def provide(self, content: Cid) -> None:
        """Say that this node serves ``content``; raises Unavailable if nobody can be found to have heard it."""
        ...

    async def find_providers(self, content: Cid, *, timeout_s: float) -> Sequence[PeerId]:
        """Who says so; empty if nobody. Raises Unavailable if nobody answered."""
        ...

    def withdraw(self, content: Cid) -> None:
        """Stop saying so here; what others were told runs out by itself."""
        ...

    def addresses(self, peer: PeerId) -> tuple[str, ...]:
        """Multiaddrs without /p2p at which a peer may be dialled, as told with records; empty if unknown."""
        ...

    def learned(self, peer: PeerId, address: str) -> None:
        """A peer of this world listens there: it may be asked, and its address handed on."""
        ...

    def peers(self) -> int:
        """How many DHT peers are known."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Named counters of look-ups and records."""
        ...
