"""One node of the in-memory network; satisfies ``interface.DistributedNetwork``."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from agent_world.errors import ErrorCode, LocalError, Refused, RemoteError
from agent_world.net.address import parse_address
from agent_world.net.answering import Answering, check_request_size, offence_of, payload_of
from agent_world.net.counters import Counters
from agent_world.net.gate import Gate
from agent_world.net.inbox import DropOldestQueue, Inbox, PeerFeed
from agent_world.net.interface import (
    BodyHandler,
    GossipMessage,
    MessageHandler,
    PeerEvent,
    PeerInfo,
    PeerUp,
    RequestHandler,
    Validator,
    Verdict,
)
from agent_world.net.memory_bodies import MemoryBodies
from agent_world.wire.ids import U32, U64, PeerId
from agent_world.wire.limits import GOSSIP_BYTES_MAX
from agent_world.wire.rpc import RR_BASE, RequestFrame, ResponseFrame

if TYPE_CHECKING:
    from agent_world.net.memory import InMemoryNetwork

log: Final = logging.getLogger(__name__)


@attrs.define(slots=True)
class _Call:
    """A request on its way: the answer, or None when the connection broke."""

    peer: PeerId
    done: trio.Event
    response: ResponseFrame | None = None


@attrs.define(slots=True)
class _Connection:
    connected_s: float
    requests: int = 0
    latency_ms: float | None = None


class InMemoryNode:
    """Made by ``InMemoryNetwork.node``; ends with ``InMemoryNetwork.remove``."""

    def __init__(self, hub: InMemoryNetwork, peer_id: PeerId, address: str) -> None:
        self.peer_id = peer_id
        self._hub = hub
        self._address = address
        self._counters = Counters()
        self.gate = Gate(hub.config, self._counters, trio.current_time)
        self.gate.turn_away = lambda peer: hub.disconnect(peer_id, peer)
        self._feed = PeerFeed(lambda: self._counters.add("peer_event_dropped"))
        self._connections: dict[PeerId, _Connection] = {}
        self._kept: dict[PeerId, list[str]] = {}
        self._dials: dict[PeerId, int] = {}
        self._topics: dict[str, list[tuple[Inbox, Validator]]] = {}
        self._answering = Answering(hub.config.requests_in_flight_per_peer_max, self._counters, self.gate)
        self._message_handlers: dict[str, MessageHandler] = {}
        self._channels: dict[tuple[PeerId, str], DropOldestQueue[bytes]] = {}
        self._calls: dict[int, _Call] = {}
        self._call_numbers = itertools.count(1)
        self._scopes: dict[trio.CancelScope, None] = {}
        self._closed = False
        self.bodies = MemoryBodies(hub, peer_id, self._counters, self.gate, self._start)

    def listen_addresses(self) -> tuple[str, ...]:
        """Own multiaddr without /p2p."""
        return (self._address,)

    def peers(self) -> Sequence[PeerInfo]:
        """Connected peers, ascending by id."""
        return [
            PeerInfo(
                peer=peer,
                address=up.address,
                outbound=up.outbound,
                connected_s=trio.current_time() - self._connections[peer].connected_s,
                requests=self._connections[peer].requests,
                latency_ms=self._connections[peer].latency_ms,
            )
            for peer, up in sorted(self._feed.connected.items())
        ]

    def peer_events(self) -> AsyncIterator[PeerEvent]:
        """Connects and disconnects; first a PeerUp for every peer already connected."""
        return self._feed.events()

    def dial(self, peer: PeerId, address: str) -> None:
        """Keep a connection; raises UsageError for text that is no address."""
        text = str(parse_address(address))
        if peer == self.peer_id or self._closed:
            return
        addresses = self._kept.setdefault(peer, [])
        if text not in addresses:
            addresses.append(text)
        if not self._hub.is_connected(self.peer_id, peer):
            self._dials[peer] = 0
            self._hub.at(self._hub.link_delay_s(self.peer_id, peer), partial(self._try_dial, peer, 0))

    def forget(self, peer: PeerId) -> None:
        """Stop keeping the connection."""
        self._kept.pop(peer, None)
        self._dials.pop(peer, None)

    async def disconnect(self, peer: PeerId) -> None:
        """Close the connection to this peer now."""
        await trio.lowlevel.checkpoint()
        self._hub.disconnect(self.peer_id, peer)

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip to whoever is connected and subscribed; raises LocalError above GOSSIP_BYTES_MAX."""
        if len(data) > GOSSIP_BYTES_MAX:
            raise LocalError(f"a gossip message of {len(data)} bytes is over the limit of {GOSSIP_BYTES_MAX}")
        await trio.lowlevel.checkpoint()
        if not self._closed:
            self._counters.add("gossip_published")
            self._hub.gossip(GossipMessage(topic, self.peer_id, data))

    async def subscribe(self, topic: str, validator: Validator) -> Inbox:
        """A new inbox of this topic; what any validator of the topic does not accept is not forwarded."""
        await trio.lowlevel.checkpoint()
        inbox = Inbox(topic, self._hub.config.inbox_messages_max, lambda: self._counters.add("gossip_inbox_dropped"))
        self._topics.setdefault(topic, []).append((inbox, validator))
        return inbox

    def serve(self, method: str, handler: RequestHandler) -> None:
        """Answer requests of this method; the last registration wins."""
        self._answering.serve(method, handler)

    def on_message(self, channel: str, handler: MessageHandler) -> None:
        """Take one-way messages of this channel; the last registration wins."""
        self._message_handlers[channel] = handler

    async def request(self, peer: PeerId, method: str, payload: bytes, *, timeout_s: float | None = None) -> bytes:
        """Ask one peer; raises Refused as ``interface.DistributedNetwork.request`` says."""
        check_request_size(method, payload)
        timeout_s = self._hub.config.request_timeout_s if timeout_s is None else timeout_s
        await trio.lowlevel.checkpoint()
        if not self._hub.is_connected(self.peer_id, peer):
            raise Refused(ErrorCode.NOT_AVAILABLE, f"not connected to {peer}")
        number, started = next(self._call_numbers), trio.current_time()
        connection = self._connections[peer]
        connection.requests += 1
        frame = RequestFrame(
            id=U64(number), method=method, payload=payload, deadline_ms=U32(max(1, math.ceil(timeout_s * 1000)))
        )
        call = self._calls[number] = _Call(peer, trio.Event())
        target = self._hub.node(peer)
        self._hub.stream(self.peer_id, peer, RR_BASE, lambda: target.on_request(self.peer_id, frame))
        try:
            with trio.move_on_after(timeout_s) as scope:
                await call.done.wait()
        finally:
            del self._calls[number]
        if scope.cancelled_caught:
            self._counters.add("request_timeout")
            raise Refused(ErrorCode.TIMEOUT, f"{peer} did not answer {method} within {timeout_s} s")
        if call.response is None:
            raise Refused(ErrorCode.NOT_AVAILABLE, f"the connection to {peer} was lost")
        connection.latency_ms = (trio.current_time() - started) * 1000
        return payload_of(call.response)

    def serve_body(self, method: str, handler: BodyHandler) -> None:
        """Answer requests of this method with a body; the last registration wins."""
        self.bodies.serving.serve(method, handler)

    def open_body(
        self, peer: PeerId, method: str, payload: bytes, *, timeout_s: float, part_timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Ask one peer for a body; raises Refused as ``interface.DistributedNetwork.open_body`` says."""
        return self.bodies.open(peer, method, payload, timeout_s, part_timeout_s)

    def send(self, peer: PeerId, channel: str, payload: bytes) -> bool:
        """One-way message, in order; False if the peer is not connected."""
        if len(payload) > GOSSIP_BYTES_MAX:
            raise LocalError(f"a message of {len(payload)} bytes is over the limit of {GOSSIP_BYTES_MAX}")
        if not self._hub.is_connected(self.peer_id, peer):
            self._counters.add("message_not_connected")
            return False
        self._counters.add("message_sent")
        if self._hub.loses_message(self.peer_id, peer):
            self._counters.add("message_lost")
            return True
        target = self._hub.node(peer)
        self._hub.stream(self.peer_id, peer, channel, lambda: target.on_channel(self.peer_id, channel, payload))
        return True

    def counters(self) -> Mapping[str, int]:
        """Counters by name."""
        return self._counters.snapshot()

    # What the hub tells a node.

    def counters_add(self, name: str) -> None:
        """Count what happened to this node on the way."""
        self._counters.add(name)

    def on_connected(self, peer: PeerId, address: str, *, outbound: bool) -> None:
        """The hub made a connection."""
        self._connections[peer] = _Connection(trio.current_time())
        self._dials.pop(peer, None)
        self._feed.up(PeerUp(peer, address, outbound))

    def on_disconnected(self, peer: PeerId) -> None:
        """The hub broke a connection: calls on it fail, and a kept one is dialled again."""
        del self._connections[peer]
        for call in self._calls.values():
            if call.peer == peer:
                call.done.set()
        self.bodies.disconnected(peer)
        for key in [key for key in self._channels if key[0] == peer]:
            self._channels.pop(key).close()
        self._feed.down(peer)
        if peer in self._kept and not self._closed:
            self._dials[peer] = 0
            self._hub.at(self._redial_s(0), partial(self._try_dial, peer, 0))

    def on_gossip(self, message: GossipMessage) -> bool:
        """Judge and deliver; True if the message may be forwarded."""
        subscriptions = self._topics.get(message.topic, [])
        for _, validator in subscriptions:
            verdict = validator(message.source, message.data)
            if verdict is not Verdict.ACCEPT:
                self._counters.add(f"gossip_{verdict.value}")
                return False
        for inbox, _ in subscriptions:
            inbox.put(message)
        if subscriptions:
            self._counters.add("gossip_accept")
        return bool(subscriptions)

    def on_request(self, peer: PeerId, frame: RequestFrame) -> None:
        """A request has arrived."""
        self._start(self._answer, peer, frame)

    def on_channel(self, peer: PeerId, channel: str, payload: bytes) -> None:
        """A one-way message has arrived."""
        if channel not in self._message_handlers:
            self._counters.add("message_unsupported")
            return
        queue = self._channels.get((peer, channel))
        if queue is None:
            bound = self._hub.config.inbox_messages_max
            queue = DropOldestQueue(bound, lambda: self._counters.add("message_inbox_dropped"))
            self._channels[peer, channel] = queue
            self._start(self._take_messages, peer, channel, queue)
        queue.put(payload)

    def close(self) -> None:
        """The hub removed this node: end what runs for it."""
        self._closed = True
        for scope in list(self._scopes):
            scope.cancel()
        self._feed.close()
        for inbox, _ in itertools.chain.from_iterable(self._topics.values()):
            inbox.close()

    def _start(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        if self._hub.nursery is None or self._closed:
            return
        # The hub's nursery outlives this node, so every task of the node has a scope that the node can cancel.
        scope = trio.CancelScope()
        self._scopes[scope] = None

        async def scoped() -> None:
            with scope:
                await work(*args)
            del self._scopes[scope]

        self._hub.nursery.start_soon(scoped)

    async def _answer(self, peer: PeerId, frame: RequestFrame) -> None:
        response = await self._answering.answer(peer, frame)
        if self._hub.is_connected(self.peer_id, peer):
            asker = self._hub.node(peer)
            self._hub.stream(self.peer_id, peer, RR_BASE, lambda: asker.on_response(response))

    def on_response(self, response: ResponseFrame) -> None:
        """An answer has arrived."""
        call = self._calls.get(response.id)
        if call is None:
            self._counters.add("request_late_answer")
            return
        call.response = response
        call.done.set()

    async def _take_messages(self, peer: PeerId, channel: str, queue: DropOldestQueue[bytes]) -> None:
        async for payload in queue:
            try:
                await self._message_handlers[channel](peer, payload)
                self._counters.add("message_received")
            except RemoteError as error:
                log.debug("message of %s on %s: %s", peer, channel, error)
                self._counters.add("message_bad")
                self.gate.blame(peer, offence_of(error))
            # A handler is foreign code here; one bad message must not end the channel. Logged and counted.
            except Exception:
                log.exception("the handler of channel %s failed", channel)
                self._counters.add("message_handler_failed")

    def _try_dial(self, peer: PeerId, attempt: int) -> None:
        if peer not in self._kept or self._dials.get(peer) != attempt:
            return  # forgotten, connected meanwhile, or another try is under way
        addresses = self._kept[peer]
        if self._hub.connect(self.peer_id, peer, addresses[attempt % len(addresses)]):
            return
        self._counters.add("dial_failed")
        self._dials[peer] = attempt + 1
        self._hub.at(self._redial_s(attempt), partial(self._try_dial, peer, attempt + 1))

    def _redial_s(self, attempt: int) -> float:
        config = self._hub.config
        longest = min(config.redial_max_s, config.redial_min_s * 2.0 ** min(attempt, 64))
        return longest * (0.5 + 0.5 * self._hub.rng.random())
