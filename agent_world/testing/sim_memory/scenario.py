"""Whole nodes on the in-memory network, one swarm a seed: partitions, loss, wrong clocks, deaths at every step of
persistence, validators that come and go, and Byzantine ones. Then all honest nodes must have one chain that grows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, cast

import attrs
import trio
from trio.testing import MockClock

from agent_world.config import MINIMAL, LeaseConfig, NetConfig
from agent_world.consensus.guard import GUARD_ENTRIES_MAX
from agent_world.crypto.hashing import cid_of, hash32
from agent_world.errors import AgentWorldError
from agent_world.net.interface import DistributedNetwork
from agent_world.net.memory import InMemoryNetwork
from agent_world.node.lease_keeper import lease_of
from agent_world.node.node import Node
from agent_world.node.provision import NodeSpec
from agent_world.node.task_status import TaskStatus
from agent_world.node.verify import verify_home
from agent_world.store import keyfile
from agent_world.store.home import HomeLayout
from agent_world.testing.bus import Partition
from agent_world.testing.node_swarm import Member, make_key, specs
from agent_world.testing.replication_checker import ReplicationChecker
from agent_world.testing.seeded_scheduler import seeded_scheduler
from agent_world.testing.sim_libp2p.report import SimReport
from agent_world.testing.sim_memory.deaths import Deaths, ProcessDied
from agent_world.testing.sim_memory.plan import CALM, MemoryPlan, draw_plan
from agent_world.testing.sim_memory.seats import Seats
from agent_world.testing.sim_memory.traitors import Traitor, TraitorNetwork
from agent_world.testing.stack import Stack
from agent_world.testing.swarm_clients import Clients, judge, settle, temporary_homes
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.hello import Role
from agent_world.wire.ids import PeerId, TimeMs, ValidatorId
from agent_world.wire.limits import HEADER_BYTES_MAX, PROPOSAL_BYTES_MAX
from agent_world.wire.signed import Signed

EACH_S: Final = 2.5
"""Virtual time of one partition, and of the quiet after it."""
EPOCH_SLOTS: Final = 4
SETS_MIN: Final = 3
"""Validator sets that a run must have had."""
CHANGES_S: Final = 30.0
"""Virtual time for them in the calm."""
TICK_S: Final = 0.25
NEWCOMER: Final = "n1"
CONFIG: Final = attrs.evolve(MINIMAL, lease=LeaseConfig(ttl_ms=5_000))


class TroubledStack(Stack):
    """A stack with a plan: its traitors have networks of their own, and its processes may die."""

    def __init__(self, directory: Path, plan: MemoryPlan) -> None:
        self.plan = plan
        hub = InMemoryNetwork(Random(f"hub {plan.seed}"), config=CONFIG.net)
        nodes = (
            *specs(validators=plan.validators, observers=1),
            NodeSpec(name=NEWCOMER, role=Role.SEQUENCER, validator=False),
        )
        super().__init__(directory, nodes, hub, CONFIG, seed=plan.seed, epoch_length_slots=EPOCH_SLOTS)
        newcomer = self.members[NEWCOMER]
        newcomer.validator_key = make_key("validator", NEWCOMER, plan.seed)
        keyfile.write(HomeLayout(newcomer.home).validator_key, newcomer.validator_key)
        self.traitors = {name: self._traitor(name) for name in plan.traitors}
        self.honest = tuple(name for name in self.members if name not in self.traitors)
        self.seated = tuple(name for name in self.honest if self.members[name].validator_key is not None)
        """Honest ones with a validator's key, whether it has a seat at the time or not."""
        self.deaths = Deaths(self, hub)
        self.logs = ReplicationChecker(self)
        self.terms: dict[int, str] = {}
        """Who held the lease in each of its terms, as any honest node has seen it."""
        self.built = self._hook

    def _traitor(self, name: str) -> Traitor:
        keys = {other: member.validator_key for other, member in self.members.items() if member.validator_key}
        others = tuple(key.public_key for other, key in keys.items() if other not in self.plan.traitors)
        traitor = Traitor(
            self.plan.traitors[name], keys[name], self.genesis_hash, Random(f"{name} {self.seed}"), others
        )
        traitor.build = partial(self._another_block, self.members[name])
        return traitor

    def _another_block(self, member: Member, round_: int) -> bytes | None:
        """Every other one states a root that its execution does not give."""
        if member.node is None:
            return None
        try:
            later = TimeMs(self.wall_ms() + 1)
            block = member.node.ledger.build(ValidatorId(member.name), round_, later, [])
        except AgentWorldError:
            return None
        if int(later) % 2:
            return block
        header = record.from_bytes(WorldBlock, block, size_max=HEADER_BYTES_MAX)
        return record.to_bytes(attrs.evolve(header, state_root=cid_of(b"wrong")))

    def _hook(self, member: Member, node: Node) -> None:
        if member.name not in self.traitors:
            self.deaths.hook(member, node)
            self.logs.watch(member, node)
        if node.lease is not None and member.name in self.seated[:2]:
            node.lease.keep = True

    def sent(self, name: str, data: bytes) -> None:
        """What traitors sign is nobody's concern, also where honest nodes send it on."""
        key = record.from_bytes(Signed, data, size_max=PROPOSAL_BYTES_MAX).key
        if name not in self.traitors and key not in {traitor.key.public_key for traitor in self.traitors.values()}:
            super().sent(name, data)

    @asynccontextmanager
    async def open_network(self, member: Member, config: NetConfig) -> AsyncIterator[DistributedNetwork]:
        """The hub's node, for a traitor with its own ways."""
        async with super().open_network(member, config) as network:
            traitor = self.traitors.get(member.name)
            yield network if traitor is None else cast(DistributedNetwork, TraitorNetwork(network, traitor))

    async def _run(self, member: Member, *, task_status: TaskStatus[Node]) -> None:
        try:
            await super()._run(member, task_status=task_status)
        except* ProcessDied:
            pass

    def running(self) -> list[str]:
        """Honest validators and the newcomer, as far as they run."""
        return [name for name in self.seated if self.members[name].node is not None]


def simulate_memory(seed: int, *, validators: int = 0, each_s: float = EACH_S) -> SimReport:
    """One run; equal arguments give an equal report. ``validators`` 0: as many as the seed draws."""
    plan = draw_plan(seed, validators)
    with seeded_scheduler(seed):
        return trio.run(_through_faults, plan, each_s, clock=MockClock(autojump_threshold=0))


async def _through_faults(plan: MemoryPlan, each_s: float) -> SimReport:
    rng = Random(f"memory {plan.seed}")
    with temporary_homes() as directory:
        stack = TroubledStack(directory, plan)
        clients, seats = Clients(stack, rng), Seats(stack, stack.seated, stack.traitors, rng)
        async with stack.hub.open(), stack.open():
            await stack.start_all()
            await stack.until_height(1, *stack.honest)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clients.run)
                nursery.start_soon(_watch_leases, stack)
                await _suffer(stack, seats, rng, each_s)
                await _see_sets_change(stack, seats)
                clients.is_acting = False
                await settle(stack, clients, stack.honest)
                nursery.cancel_scope.cancel()
            await _look_at_logs(stack)
            judge(stack, clients, stack.honest)
            counts = clients.counts + seats.counts + stack.deaths.counts + _look_at_states(stack)
            for name in stack.honest:
                await stack.stop(name)
        _verify_homes(stack)
        return _report(stack, counts)


async def _suffer(stack: TroubledStack, seats: Seats, rng: Random, each_s: float) -> None:
    """All faults of the plan, beside each other, until the partitions are through and everybody has died."""
    plan, hub = stack.plan, stack.hub
    hub.set_weather(plan.weather)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(seats.run)
        nursery.start_soon(_let_clocks_drift, stack)
        async with trio.open_nursery() as faults:
            faults.start_soon(stack.deaths.run, plan.steps, stack.running, rng)
            for shape in plan.shapes:
                cut(hub, shape, [member.peer_id for member in stack.members.values()], rng)
                await trio.sleep(each_s)
                hub.heal()
                await trio.sleep(each_s)
        nursery.cancel_scope.cancel()
    hub.set_weather(CALM)
    stack.clock_error_ms.clear()


async def _see_sets_change(stack: TroubledStack, seats: Seats) -> None:
    """The storm may have let no change through; in the calm, with the same traitors, there must be some."""
    with trio.move_on_after(CHANGES_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seats.run)
            await stack.until(lambda: len(stack.sets) >= SETS_MIN, "other validator sets")
            nursery.cancel_scope.cancel()
    if len(stack.sets) < SETS_MIN:
        stack.checker.report("seats", "all", f"{len(stack.sets)} validator sets after {CHANGES_S} calm seconds")


def cut(hub: InMemoryNetwork, shape: Partition, peers: list[PeerId], rng: Random) -> None:
    """Cut the network into this shape, drawn anew."""
    peers = rng.sample(peers, len(peers))
    half, count = len(peers) // 2, len(peers)
    match shape:
        case Partition.HALF:
            hub.partition(peers[:half], peers[half:])
        case Partition.RING:
            far = [(a, b) for a in range(count) for b in range(a) if (a - b) % count not in (1, count - 1)]
            hub.part((peers[a], peers[b]) for a, b in far)
        case Partition.SINGLE:
            hub.partition(peers[:1], peers[1:])
        case Partition.ASYMMETRIC:
            sides = (peers[:1], peers[1:])
            hub.wall(*sides if rng.randrange(2) else sides[::-1])
        case Partition.NONE:
            hub.heal()


async def _let_clocks_drift(stack: TroubledStack) -> None:
    plan, since = stack.plan, trio.current_time()
    while True:
        passed_s = trio.current_time() - since
        for name, error_ms, drift in zip(plan.names, plan.error_ms, plan.drift_ms_per_s, strict=True):
            stack.clock_error_ms[name] = error_ms + round(drift * passed_s)
        await trio.sleep(TICK_S)


async def _watch_leases(stack: TroubledStack) -> None:
    while True:
        for name in stack.running():
            seen = lease_of(stack.node(name).ledger)
            holder = seen["holder_id"]
            if holder is not None and stack.terms.setdefault(seen["term"], holder) != holder:
                stack.checker.report("lease", name, f"term {seen['term']}: {holder} and {stack.terms[seen['term']]}")
        await trio.sleep(TICK_S)


async def _look_at_logs(stack: TroubledStack) -> None:
    """All honest nodes come to one record log, in which no height is missing."""

    def is_one() -> bool:
        return len({stack.node(name).replication.log.place() for name in stack.honest}) == 1

    await stack.until(is_one, "all record logs end at one place")
    stack.logs.one_log(stack.honest)
    for name in stack.honest:
        last = stack.node(name).replication.store.covered_height()
        stack.logs.covered(name, stack.logs.first_covered(name) or 1, last)


def _look_at_states(stack: TroubledStack) -> Counter[str]:
    """While all run: who is accused, what took effect twice, what has outgrown its bound, who came and went."""
    counts: Counter[str] = Counter(terms=len(stack.terms), records=stack.logs.accepted_records)
    for traitor in stack.traitors.values():
        counts += traitor.told
    for name in stack.honest:
        node = stack.node(name)
        status: dict[str, Any] = node.equivocations.status()
        for row in status["newest"]:
            stack.checker.accused(name, row["validator_id"], honest=row["validator_id"] not in stack.traitors)
        counts["equivocations"] = max(counts["equivocations"], status["on_record"])
        counts["garbage_refused"] += sum(
            node.network.counters().get(counter, 0) for counter in ("message_bad", "gossip_reject")
        )
        seen: set[bytes] = set()
        for height in range(1, node.ledger.height + 1):
            bundle = node.ledger.bundle(height)
            if bundle is None:
                stack.checker.report("fetch", name, f"height {height} is committed and not to be had")
                continue
            ids = {hash32(action) for action in bundle.actions}
            if len(ids) < len(bundle.actions) or seen & ids:
                stack.checker.report("once", name, f"height {height} has an action again")
            seen |= ids
        if node.seat is not None and node.seat._guard is not None:
            kept = len(node.seat._guard.load().entries)
            if kept > GUARD_ENTRIES_MAX:
                stack.checker.report("bound", name, f"the guard keeps {kept} entries")
            if node.seat.counters["consensus.not_safe"]:
                stack.checker.report("I12", name, "its engine asked for what its guard had to refuse")
        if len(node.pool.mempool) > CONFIG.mempool.max_actions:
            stack.checker.report("bound", name, f"{len(node.pool.mempool)} actions wait")
    if counts["lie.noise"] and not counts["garbage_refused"]:
        stack.checker.report("silent", "all", "garbage was sent and nobody has counted any")
    return counts + _moves(stack)


def _moves(stack: TroubledStack) -> Counter[str]:
    """How often validators took and lost their seats, as the chain has it."""
    ledger = stack.node(stack.honest[0]).ledger
    moves: Counter[str] = Counter(epochs=0)
    before: set[str] | None = None
    for height in range(1, ledger.height + 1):
        stored = ledger.stored(height)
        assert stored is not None, "all heights are here"
        names = {str(entry.validator_id) for entry in stack.sets[stored.header.validators_hash].record.validators}
        if 3 * len(names & stack.traitors.keys()) >= len(names):
            stack.checker.report("third", "all", f"height {height} is decided by too few honest ones: {sorted(names)}")
        if before is not None and names != before:
            moves.update(epochs=1, joined=len(names - before), left=len(before - names))
        before = names
    return moves


def _verify_homes(stack: TroubledStack) -> None:
    """What the honest ones have on disk is what execution from the genesis gives, and all of it is there."""
    for name in stack.honest:
        found = verify_home(stack.members[name].home)
        for problem in found.problems:
            stack.checker.report("home", name, f"height {problem.height}: {problem.what}: {problem.detail}")
        if found.height != stack.checker.heights[name] or found.held != found.reachable:
            stack.checker.report("home", name, f"height {found.height}, {found.held} of {found.reachable} blobs")


def _report(stack: TroubledStack, counts: Counter[str]) -> SimReport:
    counts.update({f"treason.{treason}": 1 for treason in stack.plan.treasons})
    told = f"{stack.hub.trace()} {sorted(stack.history.items())}"
    return SimReport(
        scenario="memory",
        seed=stack.plan.seed,
        nodes=len(stack.members),
        violations=tuple(stack.checker.violations),
        digest=hash32(told.encode()).hex(),
        virtual_s=trio.current_time(),
        events=stack.hub.events,
        counts=dict(sorted(counts.items())),
    )
