"""A swarm of real libp2p hosts in one process: each gossips, repairs by request what gossip lost, and joins the DHT."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from agent_world.config import MINIMAL
from agent_world.crypto.hashing import cid_of
from agent_world.crypto.keys import KeyPair
from agent_world.errors import Refused, RemoteError
from agent_world.net.dht_records import RecordRules
from agent_world.net.inbox import Inbox
from agent_world.net.interface import Verdict
from agent_world.net.libp2p.dht import Libp2pDht
from agent_world.net.libp2p.gossip import DEGREE_LOW
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.node.task_status import TaskStatus
from agent_world.testing.sim_libp2p.internet import PORT, SimInternet, Weather, address_of, open_internet
from agent_world.testing.sim_libp2p.swarm_checker import SwarmChecker
from agent_world.testing.sim_libp2p.transport import SimTransport, serve_transport
from agent_world.wire import rpc
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId, WorldId, peer_id_of

WORLD: Final = WorldId("sim")
HEAD_KEY: Final = rpc.dht_head_key(WORLD)
TOPIC: Final = rpc.topic(WORLD, "head")
ECHO: Final = rpc.method("echo")
HELD: Final = rpc.method("held")
"""All messages of a host, which hold no line ends, one a line."""
DIALS: Final = 3
"""Links that each host makes by itself, to hosts started before it."""
REPAIR_S: Final = 1.0
"""How often a host asks one peer for the messages that it has."""


def _check_number(_key: str, value: bytes) -> None:
    if not value.isdigit():
        raise RemoteError("K2", "not a number")


def _highest(_key: str, values: Sequence[bytes]) -> int:
    return max(range(len(values)), key=lambda index: (int(values[index]), index))


RULES: Final = RecordRules(_check_number, _highest)
"""Records are decimal numbers, and the higher wins, as with heads."""


@attrs.define(slots=True, eq=False)
class Process:
    """What a host has while it runs; gone with a crash."""

    network: Libp2pNetwork
    dht: Libp2pDht
    nursery: trio.Nursery
    held: dict[bytes, None] = attrs.Factory(dict)
    """Messages, published here, gossiped or fetched."""
    height: int = 0
    """The highest head it has put."""
    dialled: set[PeerId] = attrs.Factory(set)
    """Whom it was told to keep a link with."""

    def peers(self) -> list[PeerId]:
        """Connected peers."""
        return [info.peer for info in self.network.peers()]


@attrs.define(slots=True, eq=False)
class SimHost:
    """One host: its key, its address and the content it provides stay over crashes."""

    number: int
    key: KeyPair
    address: str
    process: Process | None = None
    _scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    _ended: trio.Event = attrs.Factory(trio.Event)

    @property
    def name(self) -> str:
        """For reports."""
        return f"host {self.number}"

    @property
    def peer_id(self) -> PeerId:
        """Network identity."""
        return peer_id_of(self.key.public_key)

    @property
    def listen(self) -> str:
        """Where it can be dialled."""
        return f"/ip4/{self.address}/tcp/{PORT}"

    @property
    def content(self) -> Cid:
        """What it provides."""
        return cid_of(b"content of %d" % self.number)

    def do(self, action: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Start ``await action(host, process, *arguments)`` as part of the host's process; nothing if none runs."""
        if self.process is not None:
            self.process.nursery.start_soon(self._do, self.process, action, *arguments)

    async def _do(self, process: Process, action: Callable[..., Awaitable[None]], *arguments: object) -> None:
        if self.process is process:  # it may have crashed before this task had its first turn
            await action(self, process, *arguments)


class Swarm:
    """Made by ``open_swarm``. Satisfies ``faults.Sufferers``."""

    def __init__(self, rng: random.Random, internet: SimInternet, nursery: trio.Nursery, count: int) -> None:
        self.repairs = True
        """Whether hosts ask each other for messages; set it before they start."""
        self.rng = rng
        self.internet = internet
        self.checker = SwarmChecker()
        self._nursery = nursery
        self.hosts = [SimHost(number, KeyPair(rng.randbytes(32)), address_of(number)) for number in range(count)]

    def running(self) -> list[SimHost]:
        """Hosts whose process runs."""
        return [host for host in self.hosts if host.process is not None]

    def judge_links(self, *, bounded: bool) -> None:
        """Once faults and look-ups are over: every host runs and has the links that were dialled, by it or to it.

        ``bounded``: and hardly any others, which holds if nobody asks anything over what look-ups have made.
        """
        running = {host: host.process for host in self.hosts if host.process is not None}
        for host in self.hosts:
            process = running.get(host)
            if process is None:
                self.checker.report("linked", host.name, "does not run")
                continue
            wanted = process.dialled | {other.peer_id for other, its in running.items() if host.peer_id in its.dialled}
            linked = process.peers()
            self.checker.links(host.name, wanted=wanted, linked=linked, needed=DEGREE_LOW if bounded else len(linked))
            self.checker.connections(host.name, self.internet.open_links(host.address))

    def links_most(self) -> int:
        """Peers of the host that has the most."""
        return max(len(host.process.peers()) for host in self.hosts if host.process is not None)

    def addresses(self) -> list[str]:
        """Of all hosts."""
        return [host.address for host in self.hosts]

    def _at(self, address: str) -> SimHost:
        return next(host for host in self.hosts if host.address == address)

    async def start(self, host: SimHost) -> None:
        """Start a host's process; it dials DIALS hosts of lower number, the first one any."""
        process: Process = await self._nursery.start(self._live, host)
        earlier = [
            other for other in self.hosts if other is not host and (other.number < host.number or not host.number)
        ]
        for other in self.rng.sample(earlier, min(DIALS, len(earlier))):
            process.dialled.add(other.peer_id)
            process.network.dial(other.peer_id, other.listen)

    async def start_all(self) -> None:
        """In order of their numbers."""
        for host in self.hosts:
            await self.start(host)

    async def crash(self, address: str, *, silently: bool = False) -> None:
        """The process is gone from one moment to the next."""
        host = self._at(address)
        self.internet.crash(address, silently=silently)
        self.checker.crashed(host.name)
        host.process = None  # nothing more is begun in it
        host._scope.cancel()
        await host._ended.wait()

    async def restart(self, address: str) -> None:
        """With the same key and an empty memory."""
        await self.start(self._at(address))

    async def _live(self, host: SimHost, *, task_status: TaskStatus[Process]) -> None:
        host._scope, host._ended = trio.CancelScope(), trio.Event()
        rng = random.Random(f"host {host.number} {self.rng.random()}")
        config = attrs.evolve(MINIMAL.net, listen=(host.listen,), heartbeat_s=1.0)
        transport = SimTransport(self.internet, host.address)
        try:
            with host._scope:
                async with trio.open_nursery() as nursery:
                    serve_transport(nursery, transport)
                    async with (
                        Libp2pNetwork.open(config, host.key, transport=transport, rng=rng) as network,
                        Libp2pDht.open(network, RULES, rng) as dht,
                        trio.open_nursery() as work,
                    ):
                        host.process = process = Process(network, dht, work)
                        await self._serve(host, process)
                        if self.repairs:
                            work.start_soon(self._repair, process, rng)
                        task_status.started(process)
                        await trio.sleep_forever()
        finally:
            host.process = None
            host._ended.set()

    async def _serve(self, host: SimHost, process: Process) -> None:
        async def held(_peer: PeerId, _payload: bytes) -> bytes:
            return b"\n".join(process.held)

        process.network.serve(ECHO, _echo)
        process.network.serve(HELD, held)
        inbox = await process.network.subscribe(TOPIC, lambda _source, _data: Verdict.ACCEPT)
        process.nursery.start_soon(self._hear, host, process, inbox)

    async def _hear(self, host: SimHost, process: Process, inbox: Inbox) -> None:
        async for message in inbox:
            self.checker.given(host.name, message.data)
            self.internet.note("heard", host.number, message.data)
            process.held[message.data] = None

    async def _repair(self, process: Process, rng: random.Random) -> None:
        """Gossip is a hint: what it has lost is asked for."""
        while True:
            await trio.sleep(REPAIR_S * (0.5 + rng.random()))
            peers = process.peers()
            if not peers:
                continue
            try:
                answer = await process.network.request(rng.choice(peers), HELD, b"")
            except Refused:
                self.internet.note("not_repaired")
                continue
            missing = [message for message in answer.split(b"\n") if message and message not in process.held]
            for message in missing:
                self.internet.note("repaired", message)
            process.held.update(dict.fromkeys(missing))


async def _echo(_peer: PeerId, payload: bytes) -> bytes:
    return payload


@asynccontextmanager
async def open_swarm(rng: random.Random, count: int, weather: Weather) -> AsyncIterator[Swarm]:
    """A swarm whose hosts are made but not started; leaving ends all of them."""
    async with open_internet(rng, weather) as internet, trio.open_nursery() as processes:
        yield Swarm(rng, internet, processes, count)
        processes.cancel_scope.cancel()
