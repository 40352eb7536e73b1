"""A network inside one process, with a seed: delay, loss, reorder, duplicate, partition (D8).

All randomness comes from the ``random.Random`` handed in and all time from trio's clock, so on a MockClock a run is
a function of its seed. One task carries out everything that happens between nodes, in the order of its time and, at
equal times, in the order in which it was caused.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio
from blake3 import blake3

from agent_world.config import NetConfig, require
from agent_world.errors import LocalError
from agent_world.net.interface import GossipMessage
from agent_world.net.memory_node import InMemoryNode
from agent_world.wire.ids import PeerId

SEEN_MESSAGES_MAX: Final = 65_536
"""Gossip message ids a node remembers; the oldest is forgotten."""


@attrs.frozen(slots=True, kw_only=True)
class LinkSettings:
    """How one link behaves, the same in both directions; durations in seconds, the rest probabilities."""

    delay_min_s: float = 0.001
    delay_max_s: float = 0.005
    gossip_loss: float = 0.0
    """A gossip message on this link is lost."""
    gossip_duplicate: float = 0.0
    """It is delivered once more, past the filter of seen messages, as after the filter's time is over."""
    gossip_reorder: float = 0.0
    """It is held back for up to ``reorder_s``, so that later ones overtake it."""
    reorder_s: float = 0.1
    connection_loss: float = 0.0
    """A frame of a request or message breaks the connection instead of arriving."""
    message_loss: float = 0.0
    """A one-way message is lost alone, as one that finds its peer's queue full."""
    stall: float = 0.0
    """A frame is lost below the stream and sent again: it, and what comes after it, takes ``stall_s`` longer."""
    stall_s: float = 0.2

    def __attrs_post_init__(self) -> None:
        require(0 <= self.delay_min_s <= self.delay_max_s, "link.delay_min_s must be between 0 and delay_max_s")
        for name in ("reorder_s", "stall_s"):
            require(getattr(self, name) >= 0, f"link.{name} must not be negative")
        for name in (
            "gossip_loss", "gossip_duplicate", "gossip_reorder", "connection_loss", "message_loss", "stall",
        ):  # fmt: skip
            require(0 <= getattr(self, name) <= 1, f"link.{name} must be between 0 and 1")


Pair = tuple[PeerId, PeerId]


def _pair(a: PeerId, b: PeerId) -> Pair:
    return (a, b) if a < b else (b, a)


class InMemoryNetwork:
    """The hub: nodes, links between them and the one schedule. Use inside ``async with network.open()``."""

    def __init__(
        self, rng: random.Random, link: LinkSettings | None = None, *, config: NetConfig | None = None
    ) -> None:
        self.rng = rng
        self.config = config or NetConfig()
        self._default_link = link or LinkSettings()
        self._links: dict[Pair, LinkSettings] = {}
        self._nodes: dict[PeerId, InMemoryNode] = {}
        self._addresses: dict[PeerId, str] = {}
        self._connected: dict[Pair, int] = {}
        self._connection_numbers = itertools.count()
        self._groups: dict[PeerId, int] | None = None
        self._apart: frozenset[Pair] = frozenset()
        self._walls: frozenset[tuple[PeerId, PeerId]] = frozenset()
        self._behind_walls: list[Callable[[], None]] = []
        self._schedule: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._wake = trio.Event()
        self._stream_until: dict[tuple[PeerId, PeerId, str], float] = {}
        self._seen: dict[PeerId, OrderedDict[tuple[PeerId, int], None]] = {}
        self._message_numbers = itertools.count()
        self._trace = blake3()
        self.events = 0
        """How many things have happened between nodes."""
        self.nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[InMemoryNetwork]:
        """Run the schedule; leaving closes all nodes."""
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            nursery.start_soon(self._run, name="memory network")
            try:
                yield self
            finally:
                for peer in sorted(self._nodes):
                    self.remove(peer)
                nursery.cancel_scope.cancel()
                self.nursery = None

    def node(self, peer_id: PeerId) -> InMemoryNode:
        """The node of this id; made, with an address of its own, when it does not exist (any more)."""
        if peer_id not in self._nodes:
            number = len(self._addresses)
            self._addresses.setdefault(peer_id, f"/ip4/10.0.{number // 250}.{number % 250 + 1}/tcp/4001")
            self._seen[peer_id] = OrderedDict()
            self._nodes[peer_id] = InMemoryNode(self, peer_id, self._addresses[peer_id])
        return self._nodes[peer_id]

    def remove(self, peer_id: PeerId) -> None:
        """The node's process ends: connections break, handlers and subscriptions are gone. Nothing if there is none."""
        node = self._nodes.pop(peer_id, None)
        if node is None:
            return
        for pair in sorted(self._connected):
            if peer_id in pair:
                self.disconnect(*pair)
        del self._seen[peer_id]
        node.close()

    def set_link(self, a: PeerId, b: PeerId, link: LinkSettings | None) -> None:
        """Settings of one link; None takes them back."""
        if link is None:
            self._links.pop(_pair(a, b), None)
        else:
            self._links[_pair(a, b)] = link

    def partition(self, *groups: Iterable[PeerId]) -> None:
        """Only members of the same group reach each other; who is in no group reaches nobody."""
        self._groups = {peer: number for number, group in enumerate(groups) for peer in group}
        for pair in sorted(self._connected):
            if not self._reachable(*pair):
                self.disconnect(*pair)

    def part(self, pairs: Iterable[tuple[PeerId, PeerId]]) -> None:
        """The members of these pairs do not reach each other, whoever else they reach."""
        self._apart = frozenset(_pair(*pair) for pair in pairs)
        for pair in sorted(self._apart & self._connected.keys()):
            self.disconnect(*pair)

    def wall(self, sources: Iterable[PeerId], targets: Iterable[PeerId]) -> None:
        """What ``sources`` send to ``targets`` waits, as TCP has it, but for gossip, which is lost; the way back is
        open. Connections stay, and none is made through a wall."""
        heard = tuple(targets)
        self._walls = frozenset((source, target) for source in sources for target in heard if source != target)

    def heal(self) -> None:
        """End partitions and walls; kept connections come back after their next try."""
        self._groups, self._apart, self._walls = None, frozenset(), frozenset()
        waiting, self._behind_walls = self._behind_walls, []
        for arrive in waiting:
            arrive()

    def set_weather(self, link: LinkSettings) -> None:
        """Settings of all links that have none of their own."""
        self._default_link = link

    def disconnect(self, a: PeerId, b: PeerId) -> None:
        """Break the connection now; whoever keeps it dials again."""
        pair = _pair(a, b)
        if pair not in self._connected:
            return
        del self._connected[pair]
        for key in [key for key in self._stream_until if _pair(key[0], key[1]) == pair]:
            del self._stream_until[key]
        self._record("down", a, b)
        for one, other in (pair, pair[::-1]):
            if one in self._nodes:
                self._nodes[one].on_disconnected(other)

    def is_connected(self, a: PeerId, b: PeerId) -> bool:
        """Whether the two have a connection."""
        return _pair(a, b) in self._connected

    def trace(self) -> str:
        """Digest of everything that happened between nodes so far, with its times; equal seeds give equal traces."""
        return self._trace.hexdigest()

    # What nodes ask of the hub.

    def connect(self, dialler: PeerId, target: PeerId, address: str) -> bool:
        """Make the connection if both run, see each other, and ``address`` is the target's; True if there is one."""
        if self.is_connected(dialler, target):
            return True
        if dialler not in self._nodes or target not in self._nodes or not self._reachable(dialler, target):
            return False
        if self._addresses[target] != address:
            return False
        if self._nodes[dialler].gate.is_banned(target) or self._nodes[target].gate.is_banned(dialler):
            return False
        self._connected[_pair(dialler, target)] = next(self._connection_numbers)
        self._record("up", dialler, target)
        self._nodes[dialler].on_connected(target, self._addresses[target], outbound=True)
        self._nodes[target].on_connected(dialler, self._addresses[dialler], outbound=False)
        return True

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        """Carry out ``action`` after ``delay_s``."""
        if self.nursery is None:
            raise LocalError("the network does not run; use it inside `async with network.open()`")
        heapq.heappush(self._schedule, (trio.current_time() + delay_s, next(self._order), action))
        self._wake.set()

    def link_delay_s(self, a: PeerId, b: PeerId) -> float:
        """A random delay of this link."""
        link = self._link(a, b)
        return self.rng.uniform(link.delay_min_s, link.delay_max_s)

    def loses_message(self, source: PeerId, target: PeerId) -> bool:
        """Whether a one-way message gets lost alone."""
        loss = self._link(source, target).message_loss
        return loss > 0 and self.rng.random() < loss

    def stream(self, source: PeerId, target: PeerId, channel: str, action: Callable[[], None]) -> None:
        """Carry a frame in order on ``channel``; ``action`` runs at the target if the connection still stands then."""
        link = self._link(source, target)
        if self.rng.random() < link.connection_loss:
            self.at(self.link_delay_s(source, target), lambda: self.disconnect(source, target))
            return
        key = (source, target, channel)
        connection = self._connected.get(_pair(source, target))
        # A stream keeps its order: nothing arrives before what was sent earlier.
        delay_s = self.link_delay_s(source, target)
        if link.stall > 0 and self.rng.random() < link.stall:
            delay_s += link.stall_s
        arrival = max(trio.current_time() + delay_s, self._stream_until.get(key, 0.0))
        self._stream_until[key] = arrival

        def arrive() -> None:
            if connection is None or self._connected.get(_pair(source, target)) != connection:
                return  # the connection broke on the way; its frames never reach the one after it
            if (source, target) in self._walls:
                self._behind_walls.append(arrive)
                return
            self._record(channel, source, target)
            action()

        self.at(arrival - trio.current_time(), arrive)

    def gossip(self, message: GossipMessage) -> None:
        """Start a message at its publisher."""
        number = next(self._message_numbers)
        self._is_new(message.source, (message.source, number))
        self._spread(message, number, message.source, None)

    def _spread(self, message: GossipMessage, number: int, node: PeerId, came_from: PeerId | None) -> None:
        for pair in sorted(self._connected):
            if node not in pair:
                continue
            neighbour = pair[0] if pair[1] == node else pair[1]
            if neighbour in (came_from, message.source):
                continue
            link = self._link(node, neighbour)
            if self.rng.random() < link.gossip_loss or (node, neighbour) in self._walls:
                self._nodes[node].counters_add("gossip_lost")
                continue
            delay_s = self.link_delay_s(node, neighbour)
            if self.rng.random() < link.gossip_reorder:
                delay_s += self.rng.uniform(0, link.reorder_s)
            self._hop(message, number, node, neighbour, delay_s, again=False)
            if self.rng.random() < link.gossip_duplicate:
                self._hop(message, number, node, neighbour, delay_s + self.link_delay_s(node, neighbour), again=True)

    def _hop(
        self, message: GossipMessage, number: int, source: PeerId, target: PeerId, delay_s: float, *, again: bool
    ) -> None:
        connection = self._connected[_pair(source, target)]

        def arrive() -> None:
            if self._connected.get(_pair(source, target)) != connection:
                return
            if not self._is_new(target, (message.source, number)) and not again:
                return
            self._record(message.topic, source, target)
            # Whoever does not accept a message does not forward it either.
            if self._nodes[target].on_gossip(message) and not again:
                self._spread(message, number, target, source)

        self.at(delay_s, arrive)

    def _is_new(self, node: PeerId, message_id: tuple[PeerId, int]) -> bool:
        seen = self._seen[node]
        if message_id in seen:
            return False
        seen[message_id] = None
        while len(seen) > SEEN_MESSAGES_MAX:
            seen.popitem(last=False)
        return True

    def _link(self, a: PeerId, b: PeerId) -> LinkSettings:
        return self._links.get(_pair(a, b), self._default_link)

    def _reachable(self, a: PeerId, b: PeerId) -> bool:
        if _pair(a, b) in self._apart or (a, b) in self._walls or (b, a) in self._walls:
            return False
        if self._groups is None:
            return True
        return a in self._groups and self._groups.get(a) == self._groups.get(b)

    def _record(self, what: str, source: PeerId, target: PeerId) -> None:
        self.events += 1
        self._trace.update(f"{trio.current_time():.9f} {what} {source} {target}\n".encode())

    async def _run(self) -> None:
        while True:
            if not self._schedule:
                await self._wake.wait()
            else:
                with trio.move_on_at(self._schedule[0][0]):
                    await self._wake.wait()
            self._wake = trio.Event()
            while self._schedule and self._schedule[0][0] <= trio.current_time():
                heapq.heappop(self._schedule)[2]()
