"""A swarm of real libp2p hosts in one process: start, crash and restart them, and count what they hear."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from agent_world.config import MINIMAL
from agent_world.crypto.keys import KeyPair
from agent_world.errors import RemoteError
from agent_world.net.dht_records import RecordRules
from agent_world.net.inbox import Inbox
from agent_world.net.interface import Verdict
from agent_world.net.libp2p.dht import Libp2pDht
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.node.task_status import TaskStatus
from agent_world.testing.sim_libp2p.transport import PORT, SimInternet, Weather, address_of, serve_transport
from agent_world.wire import rpc
from agent_world.wire.ids import PeerId, WorldId, peer_id_of

WORLD: Final = WorldId("sim")
HEAD_KEY: Final = rpc.dht_head_key(WORLD)
TOPIC: Final = rpc.topic(WORLD, "head")
ECHO: Final = rpc.method("echo")
DIALS: Final = 3
"""Links that each host makes by itself, to hosts started before it."""


def _check_number(_key: str, value: bytes) -> None:
    if not value.isdigit():
        raise RemoteError("K2", "not a number")


def _highest(_key: str, values: Sequence[bytes]) -> int:
    return max(range(len(values)), key=lambda index: (int(values[index]), index))


RULES: Final = RecordRules(_check_number, _highest)
"""Records are decimal numbers, and the higher wins, as with heads."""


@attrs.define(slots=True, eq=False)
class SimHost:
    """One host: its key and address stay over crashes, the rest is that of the running process."""

    number: int
    key: KeyPair
    address: str
    network: Libp2pNetwork | None = None
    dht: Libp2pDht | None = None
    dialled: set[PeerId] = attrs.Factory(set)
    """Whom it was told to keep a link with."""
    heard: Counter[bytes] = attrs.Factory(Counter)
    """Gossip messages by content, over restarts."""
    _scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    _ended: trio.Event = attrs.Factory(trio.Event)

    @property
    def peer_id(self) -> PeerId:
        """Network identity."""
        return peer_id_of(self.key.public_key)

    @property
    def listen(self) -> str:
        """Where it can be dialled."""
        return f"/ip4/{self.address}/tcp/{PORT}"


class Swarm:
    """Made by ``open_swarm``."""

    def __init__(self, rng: random.Random, internet: SimInternet, nursery: trio.Nursery, count: int) -> None:
        self.rng = rng
        self.internet = internet
        self._nursery = nursery
        self.hosts = [SimHost(number, KeyPair(rng.randbytes(32)), address_of(number)) for number in range(count)]
        self.expected: dict[bytes, int] = {}

    def running(self) -> list[SimHost]:
        """Hosts whose process runs."""
        return [host for host in self.hosts if host.network is not None]

    def dialled_links(self, host: SimHost) -> set[PeerId]:
        """Peers to which this host or the other end was told to keep a link."""
        inward = {other.peer_id for other in self.running() if host.peer_id in other.dialled}
        return inward | host.dialled

    async def start(self, host: SimHost) -> None:
        """Start a host's process; it dials DIALS hosts of lower number, the first one any."""
        host.dialled.clear()
        await self._nursery.start(self._live, host)
        earlier = [
            other for other in self.hosts if other is not host and (other.number < host.number or not host.number)
        ]
        for other in self.rng.sample(earlier, min(DIALS, len(earlier))):
            assert host.network is not None, "it was started"
            host.dialled.add(other.peer_id)
            host.network.dial(other.peer_id, other.listen)

    async def start_all(self) -> None:
        """In order of their numbers."""
        for host in self.hosts:
            await self.start(host)

    async def crash(self, host: SimHost) -> None:
        """The process is gone from one moment to the next."""
        self.internet.crash(host.address)
        host._scope.cancel()
        await host._ended.wait()

    async def _live(self, host: SimHost, *, task_status: TaskStatus[None]) -> None:
        host._scope, host._ended = trio.CancelScope(), trio.Event()
        rng = random.Random(f"host {host.number} {self.rng.random()}")
        config = attrs.evolve(MINIMAL.net, listen=(host.listen,), heartbeat_s=1.0)
        transport = self.internet.transport(host.address)
        try:
            with host._scope:
                async with trio.open_nursery() as nursery:
                    serve_transport(nursery, transport)
                    async with (
                        Libp2pNetwork.open(config, host.key, transport=transport, rng=rng) as network,
                        Libp2pDht.open(network, RULES, rng) as dht,
                    ):
                        network.serve(ECHO, _echo)
                        inbox = await network.subscribe(TOPIC, lambda _source, _data: Verdict.ACCEPT)
                        nursery.start_soon(self._hear, host, inbox)
                        host.network, host.dht = network, dht
                        task_status.started(None)
                        await trio.sleep_forever()
        finally:
            host.network = host.dht = None
            host._ended.set()

    async def _hear(self, host: SimHost, inbox: Inbox) -> None:
        async for message in inbox:
            host.heard[message.data] += 1
            self.internet.note("heard", host.number, message.data)


async def _echo(_peer: PeerId, payload: bytes) -> bytes:
    return payload


@asynccontextmanager
async def open_swarm(rng: random.Random, count: int, weather: Weather) -> AsyncIterator[Swarm]:
    """A swarm whose hosts are made but not started; leaving ends all of them."""
    internet = SimInternet(rng, weather)
    async with trio.open_nursery() as wires:
        wires.start_soon(internet.run)
        async with trio.open_nursery() as processes:
            yield Swarm(rng, internet, processes, count)
            processes.cancel_scope.cancel()
        wires.cancel_scope.cancel()
