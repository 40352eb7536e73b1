"""A node's network over libp2p; satisfies ``interface.DistributedNetwork``."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import trio

from agent_world.config import NetConfig
from agent_world.crypto.keys import KeyPair
from agent_world.net.address import parse_address
from agent_world.net.answering import Answering
from agent_world.net.counters import Counters
from agent_world.net.doors import network_of
from agent_world.net.inbox import Inbox
from agent_world.net.interface import (
    BlockSource,
    BodyHandler,
    MessageHandler,
    PeerEvent,
    PeerInfo,
    RequestHandler,
    Validator,
)
from agent_world.net.libp2p.bitswap import BitswapServer
from agent_world.net.libp2p.bodies import Bodies
from agent_world.net.libp2p.connections import Connections
from agent_world.net.libp2p.gossip import Gossip, open_gossip
from agent_world.net.libp2p.host import Host, check_can_listen, open_host
from agent_world.net.libp2p.mdns import Found, Mdns, lan_addresses
from agent_world.net.libp2p.messages import Messages
from agent_world.net.libp2p.request_server import RequestServer
from agent_world.net.libp2p.requests import PeerLoad, Requests
from agent_world.wire.ids import Hash32, PeerId

log: Final = logging.getLogger(__name__)


def _starter(nursery: trio.Nursery, counters: Counters) -> Callable[..., None]:
    """How the parts start tasks: one that fails is logged and counted, and the others go on."""

    async def guarded(task: Callable[..., Awaitable[None]], *args: object) -> None:
        try:
            await task(*args)
        # What the library may raise is not known to the last case; no peer's stream may end the node.
        except Exception:
            log.exception("a network task failed")
            counters.add("task_failed")

    def start(task: Callable[..., Awaitable[None]], *args: object) -> None:
        nursery.start_soon(guarded, task, *args)

    return start


class Libp2pNetwork:
    """Made and run by ``Libp2pNetwork.open``; usable inside that scope only."""

    def __init__(
        self,
        host: Host,
        gossip: Gossip,
        config: NetConfig,
        counters: Counters,
        start: Callable[..., None],
        rng: random.Random,
    ) -> None:
        self.peer_id = host.peer_id
        self.host = host
        self.gate = host.gate
        self._config = config
        self._counters = counters
        self._start = start
        self._gossip = gossip
        self._answering = Answering(config.requests_in_flight_per_peer_max, counters, host.gate)
        self._server = RequestServer(host, self._answering, counters)
        self._requests = Requests(host, config, counters, start)
        self._messages = Messages(host, config, counters, start)
        self._bodies = Bodies(host, config, counters)
        self.connections = Connections(host, config, counters, rng, start)
        self.connections.on_down(self._requests.forget)
        self.connections.on_down(self._bodies.forget)
        self.connections.visits.is_needed = gossip.needs
        self.connections.on_down(self._messages.forget)
        self.gate.inbound = host.doors.shown
        self.gate.address_of = self._address_of
        self.gate.turn_away = lambda peer: start(self.connections.disconnect, peer)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: NetConfig,
        key: KeyPair,
        *,
        transport: Any | None = None,
        rng: random.Random | None = None,
    ) -> AsyncIterator[Libp2pNetwork]:
        """Listen and run until the block is left; raises UsageError if an address cannot be listened on.

        A simulation brings its own ``transport`` instead of TCP, and the ``rng`` that spreads redials in time.

        Leaving closes every connection and the listener first, then ends all tasks and the library's thread. As with
        any nursery, what the block raises arrives in an ExceptionGroup.
        """
        if transport is None:
            check_can_listen(config.listen)
        if config.mdns:
            lan_addresses(config.listen)
        counters = Counters()
        async with (
            open_host(config, key, counters, transport) as host,
            # Before anything can connect: a pubsub that does not run yet blocks every new connection.
            open_gossip(host, config, counters) as gossip,
            trio.open_nursery() as nursery,
        ):
            # Only spreads redials and pings in time; nothing that others see depends on it.
            spread = rng or random.Random()
            network = cls(host, gossip, config, counters, _starter(nursery, counters), spread)
            nursery.start_soon(network.connections.watch)
            nursery.start_soon(network.connections.visits.run)
            try:
                await host.listen(config.listen)
                yield network
            finally:
                nursery.cancel_scope.cancel()
                network.connections.feed.close()
                await host.close()

    def listen_addresses(self) -> tuple[str, ...]:
        """Own multiaddrs without /p2p, with the ports really bound."""
        return self.host.listen_addresses()

    def peers(self) -> Sequence[PeerInfo]:
        """Connected peers, ascending by id."""
        now = trio.current_time()
        infos = []
        for peer, up in sorted(self.connections.feed.connected.items()):
            load = self._requests.load.get(peer, PeerLoad())
            infos.append(
                PeerInfo(
                    peer=peer,
                    address=up.address,
                    outbound=up.outbound,
                    connected_s=now - self.connections.since.get(peer, now),
                    requests=load.requests,
                    latency_ms=load.latency_ms,
                )
            )
        return infos

    def _address_of(self, peer: PeerId) -> str | None:
        up = self.connections.feed.connected.get(peer)
        return None if up is None or not up.address else network_of(parse_address(up.address).host)

    def peer_events(self) -> AsyncIterator[PeerEvent]:
        """Connects and disconnects; first a PeerUp for every peer already connected."""
        return self.connections.feed.events()

    def dial(self, peer: PeerId, address: str) -> None:
        """Keep a connection; a further call adds an address. Raises UsageError for text that is no address."""
        self.connections.keep(peer, address)

    def forget(self, peer: PeerId) -> None:
        """Stop keeping the connection and drop its addresses."""
        self.connections.forget(peer)

    async def disconnect(self, peer: PeerId) -> None:
        """Close the connections to this peer now."""
        await self.connections.disconnect(peer)

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip; raises LocalError above GOSSIP_BYTES_MAX."""
        await self._gossip.publish(topic, data)

    async def subscribe(self, topic: str, validator: Validator) -> Inbox:
        """Join a topic; every call gives an inbox of its own."""
        return await self._gossip.subscribe(topic, validator)

    async def run_mdns(self, genesis_hash: Hash32, found: Found) -> None:
        """Until cancelled: announce this node on the local network, and tell which peers are found there."""
        await Mdns(self.peer_id, genesis_hash, lan_addresses(self.listen_addresses()), self._counters, found).run()

    def serve_bitswap(self, source: BlockSource, bytes_per_s: float) -> None:
        """Answer other IPFS implementations from now on, with at most so many bytes to all of them together."""
        server = BitswapServer(self.host, source, bytes_per_s, self._counters, self._start)
        self.connections.on_down(server.forget)

    def serve(self, method: str, handler: RequestHandler) -> None:
        """Answer requests of this method; the last registration wins."""
        self._answering.serve(method, handler)

    def on_message(self, channel: str, handler: MessageHandler) -> None:
        """Take one-way messages of this channel; the last registration wins."""
        self._messages.on_message(channel, handler)

    async def request(self, peer: PeerId, method: str, payload: bytes, *, timeout_s: float | None = None) -> bytes:
        """Ask one peer and nobody else; raises Refused, LocalError for a payload above REQUEST_BYTES_MAX."""
        timeout_s = self._config.request_timeout_s if timeout_s is None else timeout_s
        return await self._requests.request(peer, method, payload, timeout_s)

    def serve_body(self, method: str, handler: BodyHandler) -> None:
        """Answer requests of this method with a body; the last registration wins."""
        self._bodies.serving.serve(method, handler)

    def open_body(
        self, peer: PeerId, method: str, payload: bytes, *, timeout_s: float, part_timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Ask one peer for a body; raises Refused as ``interface.DistributedNetwork.open_body`` says."""
        return self._bodies.open(peer, method, payload, timeout_s, part_timeout_s)

    def send(self, peer: PeerId, channel: str, payload: bytes) -> bool:
        """Queue a one-way message; False if the peer is not connected or its queue is full."""
        return self._messages.send(peer, channel, payload)

    def counters(self) -> Mapping[str, int]:
        """Counters by name."""
        return self._counters.snapshot()
