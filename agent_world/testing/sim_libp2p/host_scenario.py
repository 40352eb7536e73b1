"""Gossip, requests and DHT of real hosts through faults; then everybody must have and find everything again."""

from __future__ import annotations

import itertools
import random
import statistics
from collections import Counter
from functools import partial
from typing import Final

import trio

from agent_world.errors import Refused, Unavailable
from agent_world.testing.sim_libp2p.determinism import replay
from agent_world.testing.sim_libp2p.faults import CALM, EVERY_FAULT, STORM, FaultPlan, suffer
from agent_world.testing.sim_libp2p.report import SimReport, make_report
from agent_world.testing.sim_libp2p.swarm import ECHO, HEAD_KEY, TOPIC, Process, SimHost, Swarm, open_swarm
from agent_world.wire.ids import PeerId

START_S: Final = 10.0
"""Virtual seconds until all hosts are linked."""
SETTLE_S: Final = 30.0
"""Virtual seconds until everybody must agree again: two ping rounds, a redial, a round of repair."""
RENEW_S: Final = 15.0
"""Virtual seconds after which what everybody has put into the DHT again must be found."""
BEAT_S: Final = 0.5
"""Between two messages and requests."""
PUT_SHARE: Final = 0.1
"""Share of the beats with a new head."""
REQUEST_S: Final = 5.0
LOOKUP_S: Final = 10.0


def simulate_hosts(seed: int, *, nodes: int = 20, plan: FaultPlan = EVERY_FAULT) -> SimReport:
    """One run of so many hosts, through every kind of fault."""
    report: SimReport = replay(seed, partial(_through_faults, seed, nodes, plan))
    return report


async def _through_faults(seed: int, nodes: int, plan: FaultPlan, rng: random.Random) -> SimReport:
    async with open_swarm(rng, nodes, CALM) as swarm:
        await swarm.start_all()
        await trio.sleep(START_S)
        traffic = _Traffic(swarm)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(traffic.run)
            await trio.sleep(plan.each_s)
            swarm.internet.weather = STORM
            for fault in plan.drawn(rng):
                await suffer(fault, swarm, rng, plan.each_s)
            swarm.internet.weather = CALM
            nursery.cancel_scope.cancel()
        await trio.sleep(SETTLE_S)
        for host in swarm.hosts:
            host.do(traffic.renew)
        await trio.sleep(RENEW_S)
        await _judge(swarm, traffic)
        traffic.counts["links_most"] = swarm.links_most()
        answers = swarm.checker.answers_s
        traffic.counts["answer_median_ms"] = round(1000 * statistics.median(answers)) if answers else 0
        return make_report("hosts", seed, nodes, swarm.internet, swarm.checker.violations, traffic.counts)


class _Traffic:
    """What the hosts do meanwhile; whatever fails is told to the checker and counted."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._checker = swarm.checker
        self._rng = swarm.rng
        self._requests = itertools.count(1)
        self._heights = itertools.count(1)
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Until cancelled."""
        for host in self._swarm.hosts:
            host.do(self._provide)
        for number in itertools.count(1):
            await trio.sleep(BEAT_S)
            self._anybody().do(self._gossip, b"message %d" % number)
            self._anybody().do(self._request)
            if number == 1 or self._rng.random() < PUT_SHARE:
                self._anybody().do(self._put_head, next(self._heights))

    def _anybody(self) -> SimHost:
        return self._rng.choice(self._swarm.running())

    async def _gossip(self, host: SimHost, process: Process, message: bytes) -> None:
        self.counts["gossip"] += 1
        process.held[message] = None
        self._checker.published(host.name, message)
        await process.network.publish(TOPIC, message)

    async def _request(self, host: SimHost, process: Process) -> None:
        peers = process.peers()
        if peers:
            await self.ask(host, process, self._rng.choice(peers))
        else:
            self.counts["request_alone"] += 1

    async def ask(self, host: SimHost, process: Process, peer: PeerId) -> None:
        """Ask a peer, and tell the checker how it ends."""
        number, began_s = next(self._requests), trio.current_time()
        self._checker.asked(number, host.name, deadline_s=began_s + REQUEST_S)
        question = b"request %d" % number
        try:
            answer = await process.network.request(peer, ECHO, question, timeout_s=REQUEST_S)
        except Refused as error:
            self.counts[f"request_{error.code}"] += 1
            self._checker.refused(number, trio.current_time(), error.code)
        else:
            self.counts["request_answered"] += 1
            self._checker.answers_s.append(trio.current_time() - began_s)
            self._checker.answered(number, trio.current_time(), right=answer == question)

    async def _put_head(self, host: SimHost, process: Process, height: int) -> None:
        process.height = max(process.height, height)
        self._checker.head_put(height, acknowledged=False)  # it may be found even if the put does not end well
        try:
            await process.dht.put_record(HEAD_KEY, b"%d" % height)
        except Unavailable:
            self.counts["head_not_put"] += 1
        else:
            self.counts["head_put"] += 1
            self._checker.head_put(height, acknowledged=True)

    async def _provide(self, host: SimHost, process: Process) -> None:
        try:
            await process.dht.provide(host.content)
            self.counts["provided"] += 1
        except Unavailable:
            self.counts["not_provided"] += 1

    async def renew(self, host: SimHost, process: Process) -> None:
        """Put what this host knows into the DHT again, as a node does from time to time."""
        if process.height:
            await self._put_head(host, process, process.height)
        await self._provide(host, process)


async def _judge(swarm: Swarm, traffic: _Traffic) -> None:
    """Everybody is up, linked, within its bounds, has every message, is answered, and finds head and providers."""
    checker = swarm.checker
    checker.no_request_hangs(trio.current_time())
    swarm.judge_links(bounded=False)
    checker.messages_held({host.name: host.process.held for host in swarm.hosts if host.process is not None})
    before = traffic.counts["request_answered"]
    for host, other in zip(swarm.hosts, swarm.hosts[1:] + swarm.hosts[:1], strict=True):
        if host.process is not None:
            host.do(traffic.ask, min(host.process.dialled))
            await _judge_lookups(swarm, host, host.process, other)
    await trio.sleep(REQUEST_S)
    if traffic.counts["request_answered"] - before < len(swarm.hosts):
        checker.report("outcome", "all", "requests are still refused")


async def _judge_lookups(swarm: Swarm, host: SimHost, process: Process, other: SimHost) -> None:
    try:
        head = await process.dht.get_record(HEAD_KEY, timeout_s=LOOKUP_S)
        swarm.checker.head_found(host.name, None if head is None else int(head))
        found = await process.dht.find_providers(other.content, timeout_s=LOOKUP_S)
        swarm.checker.providers_found(host.name, other.peer_id, found)
    except Unavailable as error:
        swarm.checker.report("head", host.name, f"finds nothing: {error}")
