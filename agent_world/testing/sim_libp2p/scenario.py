"""Two runs with real hosts: gossip, requests and DHT through faults, and a DHT of many hosts."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from typing import Final

import attrs
import trio

from agent_world.crypto.hashing import cid_of
from agent_world.errors import Refused, Unavailable
from agent_world.net.libp2p.gossip import DEGREE_LOW
from agent_world.testing.sim_libp2p.determinism import replay
from agent_world.testing.sim_libp2p.swarm import ECHO, HEAD_KEY, TOPIC, SimHost, Swarm, open_swarm
from agent_world.testing.sim_libp2p.transport import Weather
from agent_world.wire import rpc
from agent_world.wire.ids import PeerId, WorldId

STORM: Final = Weather(cut_probability=0.0005)
CALM: Final = Weather()
PHASE_S: Final = 20.0
"""Virtual seconds of each phase: storm, partition, crash."""
SETTLE_S: Final = 40.0
"""Virtual seconds until everybody must agree again: a ping round, a redial, a DHT look-up."""
BEAT_S: Final = 0.5
"""Between two messages and requests."""
LOOKUP_S: Final = 10.0


@attrs.frozen(slots=True, kw_only=True)
class StackReport:
    """What came of one seed."""

    seed: int
    nodes: int
    violations: tuple[str, ...]
    digest: str
    virtual_s: float
    events: int
    counts: dict[str, int]
    """What was tried and what came of it."""


def simulate_stack(seed: int, *, nodes: int = 20) -> StackReport:
    """Gossip, requests and DHT of ``nodes`` hosts through cuts, a partition and crashes."""
    report: StackReport = replay(seed, partial(_through_faults, seed, nodes))
    return report


def simulate_dht(seed: int, *, nodes: int = 100, operations: int = 20) -> StackReport:
    """So many puts with gets and provides with finds among ``nodes`` hosts of which each has dialled three."""
    report: StackReport = replay(seed, partial(_many_hosts, seed, nodes, operations))
    return report


async def _through_faults(seed: int, nodes: int, rng: random.Random) -> StackReport:
    counts: Counter[str] = Counter()
    async with open_swarm(rng, nodes, CALM) as swarm:
        await swarm.start_all()
        await trio.sleep(PHASE_S / 2)
        height = 0
        swarm.internet.weather = STORM
        height = await _traffic(swarm, counts, height)
        addresses = [host.address for host in swarm.hosts]
        rng.shuffle(addresses)
        swarm.internet.partition(addresses[: nodes // 2], addresses[nodes // 2 :])
        height = await _traffic(swarm, counts, height)
        swarm.internet.heal()
        victims = rng.sample(swarm.hosts, max(1, nodes // 5))
        for victim in victims:
            await swarm.crash(victim)
        height = await _traffic(swarm, counts, height)
        for victim in victims:
            await swarm.start(victim)
        swarm.internet.weather = CALM
        await trio.sleep(SETTLE_S)
        violations = await _judge(swarm, counts, height)
        return _report(seed, swarm, violations, counts)


async def _traffic(swarm: Swarm, counts: Counter[str], height: int) -> int:
    """Messages, requests and heads for PHASE_S; whatever fails meanwhile is counted. Returns the highest head put."""
    end = trio.current_time() + PHASE_S
    async with trio.open_nursery() as nursery:
        while trio.current_time() < end:
            await trio.sleep(BEAT_S)
            host = swarm.rng.choice(swarm.running())
            nursery.start_soon(_gossip, host, b"message %d" % counts["gossip"])
            counts["gossip"] += 1
            nursery.start_soon(_request, swarm, swarm.rng.choice(swarm.running()), counts)
            if swarm.rng.random() < 0.1:
                height += 1
                nursery.start_soon(_put_head, swarm.rng.choice(swarm.running()), height, counts)
    return height


async def _gossip(host: SimHost, message: bytes) -> None:
    if host.network is not None:
        await host.network.publish(TOPIC, message)


async def _request(swarm: Swarm, host: SimHost, counts: Counter[str]) -> None:
    network = host.network
    if network is None or not network.peers():
        counts["request_alone"] += 1
        return
    peer = swarm.rng.choice([info.peer for info in network.peers()])
    try:
        assert await network.request(peer, ECHO, b"echo") == b"echo", "an answer to another request"
        counts["request_answered"] += 1
    except Refused as error:
        counts[f"request_{error.code}"] += 1


async def _put_head(host: SimHost, height: int, counts: Counter[str]) -> None:
    if host.dht is None:
        return
    try:
        await host.dht.put_record(HEAD_KEY, b"%d" % height)
        counts["head_put"] += 1
    except Unavailable:
        counts["head_not_put"] += 1


async def _judge(swarm: Swarm, counts: Counter[str], height: int) -> list[str]:
    """After the faults: everybody is linked, hears a message, is answered, and finds the last head."""
    violations = [f"host {host.number} has no peer" for host in swarm.running() if not _peers_of(host)]
    violations += [f"host {host.number} does not run" for host in swarm.hosts if host.network is None]
    speaker, last = swarm.rng.choice(swarm.running()), b"the last message"
    await _gossip(speaker, last)
    await _put_head(speaker, height + 1, counts)
    await trio.sleep(PHASE_S / 2)
    for host in swarm.running():
        if host is not speaker and host.heard[last] != 1:
            violations.append(f"host {host.number} heard the last message {host.heard[last]} times")
        if any(count > 1 for count in host.heard.values()):
            violations.append(f"host {host.number} was given a message twice")
        violations += await _judge_answers(swarm, host, height + 1, counts)
    return violations


async def _judge_answers(swarm: Swarm, host: SimHost, height: int, counts: Counter[str]) -> list[str]:
    network, dht = host.network, host.dht
    assert network is not None, "it runs"
    assert dht is not None, "it runs"
    wrong = []
    try:
        found = await dht.get_record(HEAD_KEY, timeout_s=LOOKUP_S)
        if found != b"%d" % height:
            wrong.append(f"host {host.number} finds the head {found!r}, not {height}")
    except Unavailable as error:
        wrong.append(f"host {host.number} finds no head: {error}")
    # Others among its peers only visit, and may be about to go.
    for peer in sorted(swarm.dialled_links(host).intersection(_peers_of(host))):
        try:
            await network.request(peer, ECHO, b"x")
            counts["settled_answered"] += 1
        except Refused as error:
            if peer in _peers_of(host):
                wrong.append(f"host {host.number} is not answered: {error}")
    return wrong


def _peers_of(host: SimHost) -> list[PeerId]:
    return [] if host.network is None else [info.peer for info in host.network.peers()]


async def _many_hosts(seed: int, nodes: int, operations: int, rng: random.Random) -> StackReport:
    counts: Counter[str] = Counter()
    times: dict[str, float] = {}
    async with open_swarm(rng, nodes, CALM) as swarm:
        await swarm.start_all()
        await trio.sleep(PHASE_S)
        for number in range(operations):
            writer, reader = rng.sample(swarm.hosts, 2)
            key, content = rpc.dht_head_key(WorldId(f"world-{number}")), cid_of(b"content %d" % number)
            assert writer.dht is not None, "nobody crashes here"
            assert reader.dht is not None, "nobody crashes here"
            started = trio.current_time()
            await writer.dht.put_record(key, b"%d" % number)
            times["put"] = times.get("put", 0.0) + trio.current_time() - started
            started = trio.current_time()
            counts["get_found"] += await reader.dht.get_record(key, timeout_s=LOOKUP_S) == b"%d" % number
            times["get"] = times.get("get", 0.0) + trio.current_time() - started
            started = trio.current_time()
            await writer.dht.provide(content)
            times["provide"] = times.get("provide", 0.0) + trio.current_time() - started
            started = trio.current_time()
            found = await reader.dht.find_providers(content, timeout_s=LOOKUP_S)
            times["find"] = times.get("find", 0.0) + trio.current_time() - started
            counts["find_found"] += list(found) == [writer.peer_id]
        counts["operations"] = operations
        counts.update({f"{name}_mean_ms": round(1000 * total / operations) for name, total in times.items()})
        counts["table_least"] = min(host.dht.peers() for host in swarm.hosts if host.dht is not None)
        violations = await _judge_links(swarm, counts)
        missed = [what for what in ("get_found", "find_found") if counts[what] < operations]
        violations += [f"{what} {counts[what]} of {operations}" for what in missed]
        return _report(seed, swarm, violations, counts)


async def _judge_links(swarm: Swarm, counts: Counter[str]) -> list[str]:
    """Once the look-ups are over every host has the links that were dialled, and those its gossip needs."""
    await trio.sleep(PHASE_S)
    violations = []
    for host in swarm.running():
        wanted = swarm.dialled_links(host)
        linked = set(_peers_of(host))
        counts["links"] += len(linked)
        counts["links_undialled"] += len(linked - wanted)
        if wanted - linked:
            violations.append(f"host {host.number} has lost {len(wanted - linked)} links that were dialled")
        if len(linked) > max(len(wanted), DEGREE_LOW) + 1:
            violations.append(f"host {host.number} has {len(linked)} links, {len(wanted)} of them dialled")
    return violations


def _report(seed: int, swarm: Swarm, violations: list[str], counts: Counter[str]) -> StackReport:
    return StackReport(
        seed=seed,
        nodes=len(swarm.hosts),
        violations=tuple(violations),
        digest=swarm.internet.trace(),
        virtual_s=trio.current_time(),
        events=swarm.internet.events,
        counts=dict(sorted(counts.items())),
    )
