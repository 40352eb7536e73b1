"""Greets every peer, learns addresses from verified ones, and keeps enough connections (Gap 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import structlog
import trio

from agent_world.config import NetConfig
from agent_world.errors import Refused, RemoteError
from agent_world.handlers.hello import HelloHandler
from agent_world.net.address import parse_address, parse_peer
from agent_world.net.interface import DistributedNetwork, PeerDown, PeerUp
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.hearsay import Hearsay
from agent_world.node.shunned import Shunned
from agent_world.store.peers import PeerBook
from agent_world.wire import record, rpc
from agent_world.wire.hello import Hello, PeerAddress
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import HELLO_PEERS_MAX

_log = structlog.get_logger("agent_world.peers")

LINKS_WANTED: Final = 8
"""Peers a node links to by itself; the graph stays sparse, as gossip costs 0.5-1 ms a link and message."""
BOOK_REFRESH_MS: Final = 60_000
"""An unchanged address is written to the peer book again this often, not with every hello: a write is an fsync."""


class Peering:
    """One node's view of its neighbours; ``hellos`` holds the last hello of every connected peer."""

    def __init__(self, network: DistributedNetwork, book: PeerBook, config: NetConfig, clock: Clock) -> None:
        self._network = network
        self._book = book
        self._config = config
        self._clock = clock
        self._handler: HelloHandler | None = None
        self.hellos: dict[PeerId, Hello] = {}
        self._addresses: dict[PeerId, str] = {}
        self._written: dict[PeerId, tuple[str, int]] = {}
        self._greeting: set[PeerId] = set()
        self._shunned = Shunned()
        self.counters = Counters()
        self._hearsay = Hearsay(network, clock, self.counters.add)
        self.came: Callable[[], None] = lambda: None
        """Called when a peer has said its first hello on a connection."""
        self.gone: Callable[[PeerId], None] = lambda _peer: None
        """Called when the last connection to a peer has ended."""

    def use(self, handler: HelloHandler) -> None:
        """The handler that serves and judges hellos."""
        self._handler = handler
        self._network.serve(rpc.HELLO, handler.serve)

    def validators(self) -> list[PeerId]:
        """Connected peers that take consensus messages directly."""
        return [peer for peer, hello in self.hellos.items() if hello.validator]

    def known_addresses(self) -> tuple[PeerAddress, ...]:
        """Verified peers for our own hello, the connected ones."""
        known = [PeerAddress(peer_id=peer, address=self._addresses[peer]) for peer in sorted(self._addresses)]
        return tuple(known[:HELLO_PEERS_MAX])

    def greeted(self, peer: PeerId, hello: Hello) -> None:
        """A hello of this world: note it, learn where the peer and its friends listen."""
        seen_as = next((info.address for info in self._network.peers() if info.peer == peer), None)
        if seen_as is None:
            return  # the connection has ended meanwhile: what is noted now would never be removed
        is_new = peer not in self.hellos
        self.hellos[peer] = hello
        self._hearsay.came(peer)
        self._shunned.forgive(peer)
        address = next(filter(None, (_reachable(listen, seen_as) for listen in hello.listen)), None)
        if address is not None:
            self._addresses[peer] = address
            self._write(peer, address)
        for friend in hello.peers:
            if friend.peer_id != self._network.peer_id and friend.peer_id not in self.hellos:
                if len(self.hellos) >= LINKS_WANTED:
                    break
                self._hearsay.learn(friend)
        if is_new:
            self.came()

    def _write(self, peer: PeerId, address: str) -> None:
        known, written_ms = self._written.get(peer, ("", 0))
        now_ms = self._clock.now_ms()
        if known != address or now_ms - written_ms >= BOOK_REFRESH_MS:
            self._written[peer] = (address, now_ms)
            self._book.seen(peer, (address,), self._clock.wall_ms(), verified=True)

    def dial_known(self) -> None:
        """At the start: bootstrap nodes, then peers remembered from earlier runs."""
        for text in self._config.bootstrap:
            self._hearsay.choose(*parse_peer(text))
        for known in self._book.all(self._clock.wall_ms())[:LINKS_WANTED]:
            for address in known.addresses:
                self._hearsay.choose(known.peer_id, address)

    async def run(self) -> None:
        """Until cancelled: greet who connects, and everybody again at the hello interval."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._greet_all_regularly, nursery)
            async for event in self._network.peer_events():
                match event:
                    case PeerUp(peer=peer):
                        nursery.start_soon(self.greet, peer)
                    case PeerDown(peer=peer):
                        self.hellos.pop(peer, None)
                        self._addresses.pop(peer, None)
                        self._written.pop(peer, None)
                        self.gone(peer)

    async def _greet_all_regularly(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.sleep(self._config.hello_interval_s)
            self._hearsay.let_go()
            for info in self._network.peers():
                nursery.start_soon(self.greet, info.peer)

    async def greet(self, peer: PeerId) -> None:
        """Exchange hellos with one peer, once at a time; a foreigner is told why and left alone."""
        if peer in self._greeting or self._shunned.is_shunned(peer, self._clock.now_ms()):
            return
        self._greeting.add(peer)
        try:
            await self._exchange(peer)
        finally:
            self._greeting.discard(peer)

    async def _exchange(self, peer: PeerId) -> None:
        assert self._handler is not None, "use() comes before run()"
        own = record.to_bytes(self._handler.own())
        try:
            # The round of hellos does not wait for a slow peer, and the peer is asked again in the next one.
            timeout_s = max(1.0, self._config.hello_interval_s)
            answer = await self._network.request(peer, rpc.HELLO, own, timeout_s=timeout_s)
            self._handler.judge(peer, answer)
        except Refused as error:
            self.counters.add(f"hello.refused.{error.rule or error.code}")
            if error.rule:
                _log.warning("peer is not of this world", peer=peer, reason=error.message)
                self._network.forget(peer)
                await self._drop(peer)
        except RemoteError as error:
            self.counters.add(f"hello.broken.{error.rule}")
            await self._drop(peer)

    async def _drop(self, peer: PeerId) -> None:
        self._shunned.add(peer, self._clock.now_ms())
        await self._network.disconnect(peer)


def _reachable(listen: str, seen_as: str | None) -> str | None:
    """Where a peer that listens on ``listen`` can be dialled; a wildcard host is the one its connection came from."""
    address = parse_address(listen)
    if address.is_dialable:
        return str(address)
    if seen_as is None or address.port == 0:
        return None
    seen = parse_address(seen_as)
    return str(attrs.evolve(address, protocol=seen.protocol, host=seen.host))
