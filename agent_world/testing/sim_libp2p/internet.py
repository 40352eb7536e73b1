"""The simulated internet under libp2p hosts: links with delay, stalls and cuts, partitions and crashes.

Bytes arrive in order or not at all, as over TCP: a lost segment is a stall until it is sent again, a link that loses
too much is cut, and a partition holds bytes back until it heals. Every arrival goes into the trace, so that two runs
can be compared.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import attrs
import trio
from blake3 import blake3

from agent_world.config import require

PORT: Final = 4001
"""Every simulated host listens here, on an address of its own."""
WINDOW_BYTES: Final = 1 << 20
"""Bytes that one direction holds before a writer waits."""


class NobodyListens(Exception):
    """The dialled host refuses connections: its process does not run."""


@attrs.frozen(slots=True, kw_only=True)
class Weather:
    """How all links behave; durations in seconds, chances for each piece of data that is sent."""

    delay_min_s: float = 0.005
    delay_max_s: float = 0.05
    stall_probability: float = 0.0
    """That it arrives late, and all behind it with it: a lost segment, as whoever uses TCP sees it."""
    stall_max_s: float = 3.0
    cut_probability: float = 0.0
    """That it cuts its connection instead of arriving."""

    def __attrs_post_init__(self) -> None:
        require(0 <= self.delay_min_s <= self.delay_max_s, "weather.delay_min_s must be between 0 and delay_max_s")
        require(0 <= self.stall_probability <= 1, "weather.stall_probability must be between 0 and 1")
        require(self.stall_max_s >= STALL_MIN_S, f"weather.stall_max_s must be at least {STALL_MIN_S}")
        require(0 <= self.cut_probability <= 1, "weather.cut_probability must be between 0 and 1")


STALL_MIN_S: Final = 0.2
"""TCP's shortest wait before it sends a segment again."""


class Accepts(Protocol):
    """Where a host takes connections."""

    address: str

    def accept(self, stream: SimStream, remote: str) -> None:
        """A connection from ``remote``."""


class SimInternet:
    """All hosts and links of one run. ``run`` carries out what happens between them, in order of time."""

    def __init__(self, rng: random.Random, weather: Weather) -> None:
        self._rng = rng
        self.weather = weather
        self._listeners: dict[str, Accepts] = {}
        self._connections: dict[int, SimConnection] = {}
        self._numbers = itertools.count(1)
        self._walls: list[tuple[frozenset[str], frozenset[str]]] = []
        self._schedule: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._wake = trio.Event()
        self._trace = blake3()
        self.counts: Counter[str] = Counter()
        """What happened so far, by kind: data, dial, cut, stall and the faults."""

    @property
    def events(self) -> int:
        """Entries of the trace so far."""
        return sum(self.counts.values())

    # Faults.

    def wall(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """From now on nothing that ``sources`` send arrives at ``targets``, before it heals; the way back is open."""
        self._walls.append((frozenset(sources), frozenset(targets)))
        self.note("wall", *(sorted(side) for side in self._walls[-1]))

    def partition(self, *groups: Iterable[str]) -> None:
        """Addresses of different groups do not reach each other, before it heals."""
        for one, other in itertools.permutations([tuple(group) for group in groups], 2):
            self.wall(one, other)

    def heal(self) -> None:
        """Take all walls down; what has waited goes on."""
        self._walls.clear()
        self.note("heal")
        for connection in list(self._connections.values()):
            connection.resume()

    def crash(self, address: str, *, silently: bool = False) -> None:
        """The process at ``address`` is gone; nobody listens there.

        The other ends of its connections are told, as a kernel does for a process, unless ``silently``, or behind a
        wall: the machine is gone, and they learn of it when they send something to the one that is up again.
        """
        self.note("crash", address, silently)
        self._listeners.pop(address, None)
        for connection in list(self._connections.values()):
            if address not in connection.ends or connection.lost == address:
                continue
            other = _other_end(connection.ends, address)
            if silently or not self.reaches(address, other):
                connection.lose(address)
            else:
                connection.cut()

    def trace(self) -> str:
        """Digest of everything that happened so far, with its times."""
        return self._trace.hexdigest()

    def note(self, what: str, *details: object) -> None:
        """Put an event into the trace."""
        self.counts[what] += 1
        self._trace.update(f"{trio.current_time():.9f} {what} {details}\n".encode())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not self._schedule:
                await self._wake.wait()
            else:
                with trio.move_on_at(self._schedule[0][0]):
                    await self._wake.wait()
            self._wake = trio.Event()
            while self._schedule and self._schedule[0][0] <= trio.current_time():
                heapq.heappop(self._schedule)[2]()

    # What transports and connections ask.

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Carry out ``action`` at a virtual time."""
        heapq.heappush(self._schedule, (time_s, next(self._order), action))
        self._wake.set()

    def delay_s(self) -> float:
        """How long the next piece of data travels."""
        weather = self.weather
        delay_s = self._rng.uniform(weather.delay_min_s, weather.delay_max_s)
        if weather.stall_probability and self._rng.random() < weather.stall_probability:
            self.note("stall")
            delay_s += self._rng.uniform(STALL_MIN_S, weather.stall_max_s)
        return delay_s

    def is_cut(self) -> bool:
        """Whether the next piece of data cuts its connection."""
        return bool(self.weather.cut_probability) and self._rng.random() < self.weather.cut_probability

    def reaches(self, source: str, target: str) -> bool:
        """Whether what ``source`` sends arrives at ``target``."""
        return not any(source in sources and target in targets for sources, targets in self._walls)

    def is_up(self, address: str) -> bool:
        """Whether a process listens there."""
        return address in self._listeners

    def open_links(self, address: str) -> Counter[str]:
        """Connections that the host at ``address`` has dialled and that stand, by the address dialled."""
        ends = (known.ends for known in self._connections.values())
        return Counter(target for dialler, target in ends if dialler == address)

    def listen(self, listener: Accepts) -> None:
        """Accept connections from now on."""
        self._listeners[listener.address] = listener

    def unlisten(self, listener: Accepts) -> None:
        """Accept no more."""
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]

    def forget(self, number: int) -> None:
        """A connection has ended."""
        self._connections.pop(number, None)

    async def connect(self, dialler: str, target: str) -> SimStream:
        """A connection, after a round trip; waits for ever behind a wall, as a dial whose packets are dropped.

        Raises NobodyListens.
        """
        await trio.sleep(self.delay_s())
        if not (self.reaches(dialler, target) and self.reaches(target, dialler)):
            await trio.sleep_forever()
        listener = self._listeners.get(target)
        if listener is None:
            raise NobodyListens(target)
        await trio.sleep(self.delay_s())
        self.note("dial", dialler, target)
        number = next(self._numbers)
        connection = SimConnection(self, number, dialler, target)
        self._connections[number] = connection
        listener.accept(connection.streams[1], dialler)
        return connection.streams[0]


class SimConnection:
    """Two streams between two addresses."""

    def __init__(self, internet: SimInternet, number: int, dialler: str, target: str) -> None:
        self.internet = internet
        self.number = number
        self.ends = (dialler, target)
        self.is_cut = False
        self.lost: str | None = None
        """The address whose machine has gone without a word."""
        self.streams = (SimStream(self, 0), SimStream(self, 1))

    def cut(self) -> None:
        """Break both directions now."""
        if self.is_cut:
            return
        self.is_cut = True
        self.internet.note("cut", *self.ends)
        self.internet.forget(self.number)
        for stream in self.streams:
            stream.wake()

    def lose(self, address: str) -> None:
        """The machine at ``address`` is gone; what it has sent still arrives."""
        if self.lost is not None and self.lost != address:
            self.cut()  # neither end is left
            return
        self.lost = address
        self.streams[self.ends.index(address)].wake()

    def resume(self) -> None:
        """The walls are down: hand over what has waited."""
        for stream in self.streams:
            stream.deliver()


class SimStream(trio.abc.Stream):
    """One end of a connection."""

    def __init__(self, connection: SimConnection, side: int) -> None:
        self._connection = connection
        self._side = side
        self._closed = False
        self._ended = False
        self._arriving: deque[tuple[float, bytes]] = deque()
        self._buffer = bytearray()
        self._held_bytes = 0
        self._last_arrival = 0.0
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()

    @property
    def _other(self) -> SimStream:
        return self._connection.streams[1 - self._side]

    @property
    def _address(self) -> str:
        return self._connection.ends[self._side]

    async def send_all(self, data: Any) -> None:
        """As trio's streams do; BrokenResourceError after a cut."""
        await trio.lowlevel.checkpoint()
        while self._other._held_bytes > WINDOW_BYTES and not self._is_broken():
            await self._writers.park()
        self._require_open()
        if self._connection.internet.is_cut():
            self._connection.cut()
            self._require_open()
        self._other.send_here(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Nothing to wait for."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As trio's streams do; empty at the end."""
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            if self._closed:
                raise trio.ClosedResourceError
            if self._is_gone():
                raise trio.BrokenResourceError
            if self._ended:
                return b""
            await self._readers.park()
        size = len(self._buffer) if max_bytes is None else max_bytes
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._held_bytes -= len(data)
        self._other._writers.unpark_all()
        return data

    async def aclose(self) -> None:
        """Close both directions; the other end reads what is on its way, and then the end."""
        if not self._closed:
            self._closed = True
            self.wake()
            if self._connection.lost is None:
                self._other.send_here(b"")
            elif not self._is_gone():
                self._connection.internet.forget(self._connection.number)
        await trio.lowlevel.checkpoint()

    def send_here(self, data: bytes) -> None:
        """Data for this end, empty for the end of all; they arrive in the order in which they are sent."""
        internet = self._connection.internet
        self._last_arrival = max(trio.current_time() + internet.delay_s(), self._last_arrival)
        self._arriving.append((self._last_arrival, data))
        self._held_bytes += len(data)
        internet.at(self._last_arrival, self.deliver)

    def deliver(self) -> None:
        """Hand over what has arrived, unless a wall holds it back."""
        connection, internet = self._connection, self._connection.internet
        if connection.is_cut or not internet.reaches(self._other._address, self._address):
            return
        while self._arriving and self._arriving[0][0] <= trio.current_time():
            _, data = self._arriving.popleft()
            if data and (self._closed or connection.lost == self._address):
                self._refuse()
                continue
            internet.note("data", *connection.ends, self._side, len(data))
            self._buffer += data
            self._ended = self._ended or not data
        if self._ended and self._closed:
            internet.forget(connection.number)
        self.wake()

    def _refuse(self) -> None:
        """Data for nobody: whoever is up at this address says that it knows no such connection."""
        if self._connection.internet.is_up(self._address):
            self._connection.cut()

    def wake(self) -> None:
        """Let whoever waits at this end look again."""
        self._readers.unpark_all()
        self._writers.unpark_all()

    def _is_gone(self) -> bool:
        return self._connection.is_cut or self._connection.lost == self._address

    def _is_broken(self) -> bool:
        return self._closed or self._is_gone() or self._ended

    def _require_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self._is_broken():
            raise trio.BrokenResourceError


@asynccontextmanager
async def open_internet(rng: random.Random, weather: Weather) -> AsyncIterator[SimInternet]:
    """An internet that runs until the block is left."""
    internet = SimInternet(rng, weather)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(internet.run)
        yield internet
        nursery.cancel_scope.cancel()


def _other_end(ends: tuple[str, str], address: str) -> str:
    """The other one of two ends."""
    return ends[1] if ends[0] == address else ends[0]


def address_of(number: int) -> str:
    """IPv4 address of the host of this number, from 0."""
    return f"10.{number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"
