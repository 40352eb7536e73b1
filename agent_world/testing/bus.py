"""A seeded in-memory bus on a virtual clock: delay, loss, reorder, duplicates, partitions. One thread, no sleeping."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import Protocol

import attrs
from blake3 import blake3


@attrs.frozen(slots=True, kw_only=True)
class LinkFaults:
    """What a link does to a message; chances in percent, times in milliseconds."""

    delay_min_ms: int = 1
    delay_max_ms: int = 20
    spike_percent: int = 0
    """Messages that take up to ``spike_max_ms`` and so arrive after later ones."""
    spike_max_ms: int = 600
    loss_percent: int = 0
    duplicate_percent: int = 0


CALM = LinkFaults()
"""What links are like after healing."""


class Partition(StrEnum):
    """Shapes of a cut network."""

    NONE = "none"
    HALF = "half"
    """Two groups that do not hear each other."""
    RING = "ring"
    """Everybody hears only both neighbours."""
    SINGLE = "single"
    """One node hears and is heard by nobody."""
    ASYMMETRIC = "asymmetric"
    """One node is heard by all but hears nobody, or the other way round."""


class Endpoint(Protocol):
    """A node on the bus."""

    def receive(self, source: int, message: object) -> None:
        """Take one message."""
        ...


MessageFilter = Callable[[int, int, object], bool]
"""(source, target, message) -> whether to let it pass: how an adversary delays what it chooses."""


class Bus:
    """Delivers messages between endpoints, and runs timed actions, in one order that the seed decides."""

    def __init__(self, rng: Random, faults: LinkFaults) -> None:
        self._rng = rng
        self.faults = faults
        self.now_ms = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._endpoints: list[Endpoint] = []
        self._cut: set[tuple[int, int]] = set()
        self.filters: list[MessageFilter] = []
        self._trace = blake3()
        self.delivered = 0
        self.lost = 0

    def attach(self, endpoint: Endpoint) -> int:
        """Add a node; returns its number."""
        self._endpoints.append(endpoint)
        return len(self._endpoints) - 1

    @property
    def size(self) -> int:
        """Number of nodes attached."""
        return len(self._endpoints)

    def note(self, what: str, data: bytes = b"") -> None:
        """Put something that happened into the digest of this run."""
        self._trace.update(f"{self.now_ms}|{what}|{len(data)}|".encode() + data)

    def digest(self) -> str:
        """Hash of everything delivered and noted, with its time: equal for equal seeds."""
        return self._trace.hexdigest()[:32]

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Run an action later; equal times run in the order they were asked for."""
        self._sequence += 1
        heapq.heappush(self._queue, (self.now_ms + max(delay_ms, 0), self._sequence, action))

    def send(self, source: int, target: int, message: object, data: bytes) -> None:
        """Send one message; ``data`` is what stands for it in the digest."""
        faults = self.faults
        copies = 2 if self._rng.randrange(100) < faults.duplicate_percent else 1
        for _ in range(copies):
            if self._rng.randrange(100) < faults.loss_percent:
                self.lost += 1
                continue
            delay_ms = self._rng.randint(faults.delay_min_ms, faults.delay_max_ms)
            if self._rng.randrange(100) < faults.spike_percent:
                delay_ms = self._rng.randint(faults.delay_max_ms, faults.spike_max_ms)
            self.after(delay_ms, lambda: self._deliver(source, target, message, data))

    def _deliver(self, source: int, target: int, message: object, data: bytes) -> None:
        # Judged on arrival: what is under way when the network is cut is lost, too.
        if (source, target) in self._cut or not all(passes(source, target, message) for passes in self.filters):
            self.lost += 1
            return
        self.delivered += 1
        self.note(f"{source}>{target}", data)
        self._endpoints[target].receive(source, message)

    def partition(self, shape: Partition) -> None:
        """Cut the network into this shape, drawn anew; NONE heals it."""
        count = self.size
        nodes = list(range(count))
        self._rng.shuffle(nodes)
        pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
        if shape is Partition.HALF:
            half = set(nodes[: count // 2])
            self._cut = {(a, b) for a, b in pairs if (a in half) != (b in half)}
        elif shape is Partition.RING:
            place = {node: index for index, node in enumerate(nodes)}
            self._cut = {(a, b) for a, b in pairs if (place[a] - place[b]) % count not in (1, count - 1)}
        elif shape is Partition.SINGLE:
            self._cut = {(a, b) for a, b in pairs if nodes[0] in (a, b)}
        elif shape is Partition.ASYMMETRIC:
            side = self._rng.randrange(2)
            self._cut = {pair for pair in pairs if pair[side] == nodes[0]}
        else:
            self._cut = set()
        self.note(f"partition {shape}")

    def run_until(self, end_ms: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Run everything due up to ``end_ms``, or until ``stop`` says so after an event."""
        while self._queue and self._queue[0][0] <= end_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()
            if stop():
                return
        self.now_ms = end_ms
