"""Which peers this node stays connected with: dial loop, liveness, peer events."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any, Final

import attrs
import trio
from libp2p.abc import INotifee
from libp2p.network.health.ping_probe import ping_connection
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from agent_world.config import NetConfig
from agent_world.net.address import parse_address
from agent_world.net.counters import Counters
from agent_world.net.inbox import PeerFeed
from agent_world.net.interface import PeerUp
from agent_world.net.libp2p import library_faults
from agent_world.net.libp2p.host import Host, library_id, our_id, remote_address
from agent_world.net.libp2p.visits import Visits
from agent_world.wire.ids import PeerId

log: Final = logging.getLogger(__name__)

ADDRESSES_PER_PEER_MAX: Final = 8
"""Addresses tried in rotation; the oldest is dropped."""
PING_EVERY_S: Final = 5.0
"""Nothing else notices a peer that is frozen or cut off."""
PING_TIMEOUT_S: Final = 5.0
"""How long an answer may take; a node may be busy for a second or two."""
PINGS: Final = 2
"""A peer that leaves so many in a row unanswered is disconnected. Two, since on a machine that has no time left for
anybody new connections would cost what is missing."""
ADDRESS_TTL_S: Final = 3_600
"""How long the library remembers an address that we dialled; its DHT hands it on."""


@attrs.define(slots=True)
class _Kept:
    """A peer to stay connected with."""

    peer: PeerId
    addresses: list[str]
    scope: trio.CancelScope
    wake: trio.Event
    tries: int = 0


class Connections:
    """Keeps and watches the connections of one host; ``run`` drives the watching."""

    def __init__(
        self, host: Host, config: NetConfig, counters: Counters, rng: random.Random, start: Callable[..., None]
    ) -> None:
        self._host = host
        self._config = config
        self._counters = counters
        self._rng = rng
        self._start = start
        self._kept: dict[PeerId, _Kept] = {}
        self.since: dict[PeerId, float] = {}
        self.feed = PeerFeed(lambda: counters.add("peer_event_dropped"))
        self._on_down: list[Callable[[PeerId], None]] = []
        self.visits = Visits(counters)
        self.visits.became_link = self._up
        host.used = self.visits.used
        host.network.register_notifee(_Notifee(self))

    def on_down(self, action: Callable[[PeerId], None]) -> None:
        """Call ``action`` when the last connection to a peer has ended."""
        self._on_down.append(action)

    def keep(self, peer: PeerId, address: str) -> None:
        """Dial until connected, and again after a loss; raises UsageError for text that is no address.

        A further call adds an address; all are tried in turn.
        """
        text = str(parse_address(address))
        if peer == self._host.peer_id:
            return
        kept = self._kept.get(peer)
        if kept is None:
            if len(self._kept) >= self._config.peers_known_max:
                self._counters.add("dial_limit")
                return
            kept = self._kept[peer] = _Kept(peer, [text], trio.CancelScope(), trio.Event())
            self.visits.used(peer)
            self._start(self._keep_connected, kept)
        elif text not in kept.addresses:
            # Tried next: who tells a new address usually knows better than the old one.
            kept.addresses.insert(kept.tries % len(kept.addresses), text)
            del kept.addresses[ADDRESSES_PER_PEER_MAX:]

    def forget(self, peer: PeerId) -> None:
        """Stop keeping; an existing connection stays until it ends."""
        kept = self._kept.pop(peer, None)
        if kept is not None:
            kept.scope.cancel()

    def is_linked(self, peer: PeerId) -> bool:
        """Whether there is a connection that is more than a visit of a look-up."""
        return any(
            not connection.is_closed and not self.visits.is_visit(connection)
            for connection in self._host.connections(peer)
        )

    async def disconnect(self, peer: PeerId) -> None:
        """Close the connections to this peer; returns when they are closed."""
        async with trio.open_nursery() as nursery:
            for connection in self._host.connections(peer):
                nursery.start_soon(connection.close)

    async def watch(self) -> None:
        """Ping every connection now and then, all at once, and close those that do not answer."""
        while True:
            await trio.sleep(PING_EVERY_S * (0.75 + 0.5 * self._rng.random()))
            async with trio.open_nursery() as nursery:
                for peer in list(self.feed.connected):
                    for connection in self._host.connections(peer):
                        nursery.start_soon(self._ping, peer, connection)

    def connected(self, connection: Any) -> None:
        """The library has a new connection, ready for streams."""
        peer = our_id(connection.muxed_conn.peer_id)
        library_faults.forget_failed_dials(self._host.inner, peer)
        older = [
            other
            for other in self._host.connections(peer)
            if other is not connection and other.direction is connection.direction
        ]
        outbound = connection.direction is Direction.OUTBOUND
        if outbound and not older and peer not in self._kept and self.visits.takes(peer, connection):
            return
        for other in older:
            # A second connection in the same direction means that the peer has lost the first, even if nothing has
            # told us yet: it was cut off, or it has restarted.
            self._counters.add("connection_replaced")
            self._start(_close, other)
        if older:
            self._down(peer)
        self._up(peer, connection)

    def _up(self, peer: PeerId, connection: Any) -> None:
        self.since.setdefault(peer, trio.current_time())
        self._counters.add("connection_up")
        self.feed.up(PeerUp(peer, remote_address(connection), connection.direction is Direction.OUTBOUND))

    def disconnected(self, connection: Any) -> None:
        """The library has lost a connection."""
        peer = our_id(connection.muxed_conn.peer_id)
        if not self.visits.ended(peer, connection):
            self._counters.add("connection_down")
        if not self.is_linked(peer):
            self._down(peer)

    def _down(self, peer: PeerId) -> None:
        self.since.pop(peer, None)
        self.feed.down(peer)
        for action in self._on_down:
            action(peer)
        kept = self._kept.get(peer)
        if kept is not None:
            kept.wake.set()

    async def _keep_connected(self, kept: _Kept) -> None:
        with kept.scope:
            pause_s = self._config.redial_min_s
            while True:
                if self._host.is_connected(kept.peer):
                    kept.wake = trio.Event()
                    await kept.wake.wait()
                    pause_s = self._config.redial_min_s
                elif self._host.gate.is_banned(kept.peer):
                    self._counters.add("dial_banned")
                elif await self._dial(kept):
                    continue
                # Jitter keeps two peers that lost each other from dialling each other at the same moment for ever.
                await trio.sleep(pause_s * (0.5 + 0.5 * self._rng.random()))
                pause_s = min(pause_s * 2, self._config.redial_max_s)

    async def _dial(self, kept: _Kept) -> bool:
        address = Multiaddr(kept.addresses[kept.tries % len(kept.addresses)])
        try:
            with trio.fail_after(self._config.dial_timeout_s):
                await self._host.network.dial_addr(address, library_id(kept.peer))
        # A handshake with somebody hostile may raise anything, and the loop must go on. Counted and logged here.
        except Exception as error:  # noqa: BLE001
            kept.tries += 1
            self._counters.add("dial_failed")
            log.debug("dial %s at %s: %r", kept.peer, address, error)
            return False
        self._host.inner.get_peerstore().add_addrs(library_id(kept.peer), [address], ADDRESS_TTL_S)
        return True

    async def _ping(self, peer: PeerId, connection: Any) -> None:
        for _ in range(PINGS):
            if (await ping_connection(connection, ping_timeout=PING_TIMEOUT_S)).success:
                return
        if not connection.is_closed:
            self._counters.add("connection_silent")
            log.info("%s answers no ping; its connection is closed", peer)
            await _close(connection)


async def _close(connection: Any) -> None:
    await connection.close()


class _Notifee(INotifee):
    """The library's way to tell of connections; the other events mean nothing here."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def connected(self, network: Any, conn: Any) -> None:
        self._connections.connected(conn)

    async def disconnected(self, network: Any, conn: Any) -> None:
        self._connections.disconnected(conn)

    async def opened_stream(self, network: Any, stream: Any) -> None:
        """Nothing to do."""

    async def closed_stream(self, network: Any, stream: Any) -> None:
        """Nothing to do."""

    async def listen(self, network: Any, multiaddr: Any) -> None:
        """Nothing to do."""

    async def listen_close(self, network: Any, multiaddr: Any) -> None:
        """Nothing to do."""
