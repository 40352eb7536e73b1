"""A DHT of many hosts: what one of them puts or provides, another one finds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import trio

from agent_world.crypto.hashing import cid_of
from agent_world.errors import Unavailable
from agent_world.net.libp2p.dht import Libp2pDht
from agent_world.testing.sim_libp2p.determinism import replay
from agent_world.testing.sim_libp2p.faults import CALM
from agent_world.testing.sim_libp2p.report import SimReport, make_report
from agent_world.testing.sim_libp2p.swarm import SimHost, Swarm, open_swarm
from agent_world.wire import rpc
from agent_world.wire.ids import WorldId

START_S: Final = 20.0
"""Virtual seconds until the routing tables are filled."""
LOOKUP_S: Final = 10.0
QUIET_S: Final = 20.0
"""Virtual seconds after the last look-up, when only the links that were dialled may be left."""
T = TypeVar("T")


def simulate_dht(seed: int, *, nodes: int = 100, operations: int = 20) -> SimReport:
    """So many puts with gets and provides with finds among ``nodes`` hosts of which each has dialled three."""
    report: SimReport = replay(seed, partial(_many_hosts, seed, nodes, operations))
    return report


async def _many_hosts(seed: int, nodes: int, operations: int, rng: random.Random) -> SimReport:
    async with open_swarm(rng, nodes, CALM) as swarm:
        swarm.repairs = False
        await swarm.start_all()
        await trio.sleep(START_S)
        run = _Run(swarm)
        for number in range(operations):
            await run.one(number)
        counts = run.counts
        counts["operations"] = operations
        counts.update({f"{name}_mean_ms": round(1000 * total / operations) for name, total in run.times_s.items()})
        counts["table_least"] = min(_dht_of(host).peers() for host in swarm.hosts)
        await trio.sleep(QUIET_S)
        swarm.judge_links(bounded=True)
        counts["links_most"] = swarm.links_most()
        return make_report("dht", seed, nodes, swarm.internet, swarm.checker.violations, counts)


class _Run:
    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self.counts: Counter[str] = Counter()
        self.times_s: dict[str, float] = {}

    async def one(self, number: int) -> None:
        """One put with its get, and one provide with its find; each may fail by itself."""
        writer, reader = self._swarm.rng.sample(self._swarm.hosts, 2)
        key, content, value = rpc.dht_head_key(WorldId(f"world-{number}")), cid_of(b"content %d" % number), number
        put, get = _dht_of(writer), _dht_of(reader)
        await self._timed("put", writer, partial(put.put_record, key, b"%d" % value))
        got = await self._timed("get", reader, partial(get.get_record, key, timeout_s=LOOKUP_S))
        self.counts["get_found"] += got == b"%d" % value
        if got != b"%d" % value:
            self._swarm.checker.report("head", reader.name, f"gets {got!r} for {key}")
        await self._timed("provide", writer, partial(put.provide, content))
        found = await self._timed("find", reader, partial(get.find_providers, content, timeout_s=LOOKUP_S))
        self._swarm.checker.providers_found(reader.name, writer.peer_id, found or ())
        self.counts["find_found"] += list(found or ()) == [writer.peer_id]

    async def _timed(self, what: str, host: SimHost, ask: Callable[[], Awaitable[T]]) -> T | None:
        started_s = trio.current_time()
        try:
            return await ask()
        except Unavailable as error:
            self._swarm.checker.report(what, host.name, str(error))
            return None
        finally:
            self.times_s[what] = self.times_s.get(what, 0.0) + trio.current_time() - started_s


def _dht_of(host: SimHost) -> Libp2pDht:
    assert host.process is not None, "nobody crashes here"
    return host.process.dht
