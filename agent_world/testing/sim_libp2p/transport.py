"""The libp2p side of the simulated internet: what hosts dial and listen with, in place of TCP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from libp2p.abc import IListener, ITransport
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from agent_world.testing.sim_libp2p.internet import PORT, NobodyListens, SimInternet, SimStream


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
        try:
            stream = await self.internet.connect(self.address, target)
        except NobodyListens as error:
            raise OpenConnectionError(f"nobody listens at {target}") from error
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


def serve_transport(nursery: trio.Nursery, transport: SimTransport) -> None:
    """Start what the transport needs in the nursery of its host's process."""
    nursery.start_soon(partial(transport.run), name=f"transport {transport.address}")
