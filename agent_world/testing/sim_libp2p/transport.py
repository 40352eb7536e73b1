"""The transport under simulated libp2p hosts: links with delay, cuts, partitions and crashes, in place of TCP.

Bytes arrive in order or not at all, as over TCP: a link that loses something is cut, and a partition holds bytes back
until it heals. Every arrival goes into the trace, so that two runs can be compared.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final

import attrs
import trio
from blake3 import blake3
from libp2p.abc import IListener, ITransport
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from agent_world.config import require

PORT: Final = 4001
"""Every simulated host listens here, on an address of its own."""
WINDOW_BYTES: Final = 1 << 20
"""Bytes that one direction holds before a writer waits."""


@attrs.frozen(slots=True, kw_only=True)
class Weather:
    """How all links behave; durations in seconds."""

    delay_min_s: float = 0.005
    delay_max_s: float = 0.05
    cut_probability: float = 0.0
    """That a piece of data cuts its connection instead of arriving: what loss is to whoever uses TCP."""

    def __attrs_post_init__(self) -> None:
        require(0 <= self.delay_min_s <= self.delay_max_s, "weather.delay_min_s must be between 0 and delay_max_s")
        require(0 <= self.cut_probability <= 1, "weather.cut_probability must be between 0 and 1")


class SimInternet:
    """All hosts and links of one run. ``run`` carries out what happens between them, in order of time."""

    def __init__(self, rng: random.Random, weather: Weather) -> None:
        self._rng = rng
        self.weather = weather
        self._listeners: dict[str, SimListener] = {}
        self._connections: dict[int, SimConnection] = {}
        self._numbers = itertools.count(1)
        self._groups: dict[str, int] | None = None
        self._schedule: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._wake = trio.Event()
        self._trace = blake3()
        self.events = 0
        """Arrivals, dials and cuts so far."""

    def transport(self, address: str) -> SimTransport:
        """The transport of the host at an IPv4 address."""
        return SimTransport(self, address)

    def partition(self, *groups: Iterable[str]) -> None:
        """Only addresses of one group reach each other; what is on its way between groups waits."""
        self._groups = {address: number for number, group in enumerate(groups) for address in group}
        self.note("partition")

    def heal(self) -> None:
        """End the partition; what has waited goes on."""
        self._groups = None
        self.note("heal")
        for connection in list(self._connections.values()):
            connection.resume()

    def crash(self, address: str) -> None:
        """The process at ``address`` is gone: its connections break, nobody listens there."""
        self.note("crash", address)
        self._listeners.pop(address, None)
        for connection in [known for known in self._connections.values() if address in known.ends]:
            connection.cut()

    def trace(self) -> str:
        """Digest of everything that happened so far, with its times."""
        return self._trace.hexdigest()

    def note(self, what: str, *details: object) -> None:
        """Put an event of the scenario into the trace."""
        self.events += 1
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
        return self._rng.uniform(self.weather.delay_min_s, self.weather.delay_max_s)

    def is_cut(self) -> bool:
        """Whether the next piece of data cuts its connection."""
        return self._rng.random() < self.weather.cut_probability

    def reaches(self, one: str, other: str) -> bool:
        """Whether no partition lies between two addresses."""
        if self._groups is None:
            return True
        return one in self._groups and self._groups.get(one) == self._groups.get(other)

    def listen(self, listener: SimListener) -> None:
        """Accept connections from now on."""
        self._listeners[listener.address] = listener

    def unlisten(self, listener: SimListener) -> None:
        """Accept no more."""
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]

    def forget(self, number: int) -> None:
        """A connection has ended."""
        self._connections.pop(number, None)

    async def connect(self, dialler: str, target: str) -> SimStream:
        """A connection, after a round trip; waits for ever through a partition, as a dial whose packets are dropped.

        Raises OpenConnectionError if nobody listens there.
        """
        await trio.sleep(self.delay_s())
        while not self.reaches(dialler, target):
            await trio.sleep_forever()
        listener = self._listeners.get(target)
        if listener is None:
            raise OpenConnectionError(f"nobody listens at {target}")
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

    def resume(self) -> None:
        """A partition has healed: hand over what has waited."""
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
        self._last_arrival = 0.0
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()

    @property
    def _other(self) -> SimStream:
        return self._connection.streams[1 - self._side]

    async def send_all(self, data: Any) -> None:
        """As trio's streams do; BrokenResourceError after a cut."""
        await trio.lowlevel.checkpoint()
        while self._other._held() > WINDOW_BYTES and not self._is_broken():
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
            if self._connection.is_cut:
                raise trio.BrokenResourceError
            if self._ended:
                return b""
            await self._readers.park()
        size = len(self._buffer) if max_bytes is None else max_bytes
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._other._writers.unpark_all()
        return data

    async def aclose(self) -> None:
        """Close both directions; the other end reads what is on its way, and then the end."""
        if not self._closed:
            self._closed = True
            self.wake()
            self._other.send_here(b"")
        await trio.lowlevel.checkpoint()

    def send_here(self, data: bytes) -> None:
        """Data for this end, empty for the end of all; they arrive in the order in which they are sent."""
        internet = self._connection.internet
        self._last_arrival = max(trio.current_time() + internet.delay_s(), self._last_arrival)
        self._arriving.append((self._last_arrival, data))
        internet.at(self._last_arrival, self.deliver)

    def deliver(self) -> None:
        """Hand over what has arrived, unless a partition holds it back."""
        internet = self._connection.internet
        if self._connection.is_cut or not internet.reaches(*self._connection.ends):
            return
        while self._arriving and self._arriving[0][0] <= trio.current_time():
            _, data = self._arriving.popleft()
            internet.note("data", *self._connection.ends, self._side, len(data))
            self._buffer += data
            self._ended = self._ended or not data
        if self._ended and self._closed:
            internet.forget(self._connection.number)
        self.wake()

    def wake(self) -> None:
        """Let whoever waits at this end look again."""
        self._readers.unpark_all()
        self._writers.unpark_all()

    def _held(self) -> int:
        return len(self._buffer) + sum(len(data) for _, data in self._arriving)

    def _is_broken(self) -> bool:
        return self._closed or self._connection.is_cut or self._other._closed

    def _require_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self._is_broken():
            raise trio.BrokenResourceError


class _RawStream(TrioTCPStream):
    """A stream as the library wants it, with the address of its other end."""

    def __init__(self, stream: SimStream, remote: str) -> None:
        super().__init__(stream)  # type: ignore[arg-type]  # it needs no socket, only the stream
        self._cached_remote_address = (remote, PORT)


class SimListener(IListener):
    """Where a host accepts connections."""

    def __init__(self, internet: SimInternet, address: str, handler: Callable[[Any], Awaitable[None]]) -> None:
        self.internet = internet
        self.address = address
        self._handler = handler
        self._addresses: tuple[Multiaddr, ...] = ()
        self._nursery: trio.Nursery | None = None
        self._arrived, self._waiting = trio.open_memory_channel[tuple[SimStream, str]](1_024)

    def accept(self, stream: SimStream, remote: str) -> None:
        """A connection for this host."""
        try:
            self._arrived.send_nowait((stream, remote))
        except (trio.WouldBlock, trio.BrokenResourceError):
            stream._connection.cut()

    async def serve(self) -> None:
        """Hand every connection to the host, until cancelled: the host's process."""
        async with trio.open_nursery() as nursery:
            async for stream, remote in self._waiting:
                nursery.start_soon(self._handler, _RawStream(stream, remote))

    async def listen(self, maddr: Multiaddr) -> None:
        """Begin to accept."""
        self._addresses = (maddr,)
        self.internet.listen(self)
        await trio.lowlevel.checkpoint()

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """The one address."""
        return self._addresses

    async def close(self) -> None:
        """Accept no more."""
        self.internet.unlisten(self)
        await trio.lowlevel.checkpoint()


class SimTransport(ITransport):
    """What a host dials and listens with; ``run`` is part of its process."""

    def __init__(self, internet: SimInternet, address: str) -> None:
        self.internet = internet
        self.address = address
        self._listeners, self._new = trio.open_memory_channel[SimListener](8)

    async def run(self) -> None:
        """Serve the listeners until cancelled."""
        async with trio.open_nursery() as nursery:
            async for listener in self._new:
                nursery.start_soon(listener.serve)

    async def dial(self, maddr: Multiaddr) -> RawConnection:
        """Connect; raises OpenConnectionError."""
        target = str(maddr).split("/")[2]
        stream = await self.internet.connect(self.address, target)
        return RawConnection(_RawStream(stream, target), True)

    def create_listener(self, handler_function: Callable[[Any], Awaitable[None]]) -> SimListener:
        """A listener whose connections ``run`` hands on."""
        listener = SimListener(self.internet, self.address, handler_function)
        self._listeners.send_nowait(listener)
        return listener

    def can_dial(self, maddr: Multiaddr) -> bool:
        """Any IPv4 address."""
        return str(maddr).startswith("/ip4/")

    def can_listen(self, maddr: Multiaddr) -> bool:
        """Any IPv4 address."""
        return str(maddr).startswith("/ip4/")

    def protocols(self) -> list[str]:
        """As the library asks."""
        return ["tcp"]


def address_of(number: int) -> str:
    """IPv4 address of the host of this number, from 0."""
    return f"10.{number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"


def serve_transport(nursery: trio.Nursery, transport: SimTransport) -> None:
    """Start what the transport needs in the nursery of its host's process."""
    nursery.start_soon(partial(transport.run), name=f"transport {transport.address}")
