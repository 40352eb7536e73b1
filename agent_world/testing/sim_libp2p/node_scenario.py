"""Whole nodes on libp2p hosts go through faults; then all must have one chain with everything that was handed in."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from agent_world.config import MINIMAL, require
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import Refused
from agent_world.node.views import NodeViews
from agent_world.testing.node_swarm import make_key, specs
from agent_world.testing.sim_libp2p.determinism import replay
from agent_world.testing.sim_libp2p.faults import CALM, EVERY_FAULT, STORM, FaultPlan, suffer
from agent_world.testing.sim_libp2p.internet import open_internet
from agent_world.testing.sim_libp2p.nodes import Libp2pNodes
from agent_world.testing.sim_libp2p.report import SimReport, make_report
from agent_world.testing.stack_actions import grant, pay, register
from agent_world.wire.ids import Hash32

NODES_MIN: Final = 6
SETTLE_S: Final = 60.0
"""Virtual seconds in which the chain must have grown and everybody must have all of it; left as soon as it is so."""
GROWTH_BLOCKS: Final = 3
BEAT_S: Final = 0.4
"""Between two actions."""
AGAIN_S: Final = 4.0
"""An action without a receipt after so long is handed in again, elsewhere: its node may have died with it."""
MEMORY: Final = Path("/dev/shm")


def simulate_nodes(seed: int, *, nodes: int = NODES_MIN, plan: FaultPlan = EVERY_FAULT) -> SimReport:
    """One run of four validators, a storage node and observers, through every kind of fault."""
    require(nodes >= NODES_MIN, f"whole nodes are at least {NODES_MIN}: four validators, a storage node, an observer")
    report: SimReport = replay(seed, partial(_through_faults, seed, nodes, plan))
    return report


async def _through_faults(seed: int, nodes: int, plan: FaultPlan, rng: random.Random) -> SimReport:
    wanted = specs(validators=4, storage=1, observers=nodes - 5)
    async with open_internet(rng, CALM) as internet:
        with _homes() as directory:
            async with Libp2pNodes(directory, wanted, internet, MINIMAL, seed).open() as swarm:
                await swarm.start_all()
                await swarm.until_height(2)
                clients = _Clients(swarm, rng)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(clients.run)
                    internet.weather = STORM
                    for fault in plan.drawn(rng):
                        await suffer(fault, swarm, rng, plan.each_s)
                    internet.weather = CALM
                    clients.is_acting = False
                    await _settle(swarm, clients)
                    nursery.cancel_scope.cancel()
                _judge(swarm, clients)
                for name in swarm.members:
                    clients.counts["repaired_actions"] += swarm.counters(name).get("repair.actions", 0)
                    clients.counts["synced_heights"] += swarm.counters(name).get("sync.heights", 0)
                internet.note("histories", swarm.history)
        return make_report("nodes", seed, len(wanted), internet, swarm.checker.violations, clients.counts)


@contextmanager
def _homes() -> Iterator[Path]:
    """A directory for the homes, in memory where there is such a place: none of this is about a power cut."""
    with tempfile.TemporaryDirectory(prefix="aw-sim-", dir=MEMORY if MEMORY.is_dir() else None) as path:
        yield Path(path)


class _Clients:
    """Alice comes into the world and pays Bob again and again, at any node that runs."""

    def __init__(self, swarm: Libp2pNodes, rng: random.Random) -> None:
        self._swarm = swarm
        self._rng = rng
        self.is_acting = True
        self.open: dict[Hash32, tuple[bytes, float]] = {}
        """Without a receipt: the action, and when it was handed in last."""
        self.committed: list[Hash32] = []
        self.counts: Counter[str] = Counter()

    @property
    def all_ids(self) -> set[Hash32]:
        """Of everything that was handed in."""
        return {*self.committed, *self.open}

    async def run(self) -> None:
        """Until cancelled."""
        for payload in (register("alice"), register("bob"), grant("alice", 1_000_000)):
            self._act(self._swarm.authority, payload)
        while True:
            await trio.sleep(BEAT_S)
            self._look()
            if self.is_acting:
                self._act(make_key("alice"), pay("bob", 1))

    def _act(self, key: KeyPair, payload: object) -> None:
        self._hand_in(self._swarm.sign(key, payload))

    def _anybody(self) -> NodeViews:
        running = [name for name, member in self._swarm.members.items() if member.node is not None]
        return NodeViews(self._swarm.node(self._rng.choice(running)))

    def _hand_in(self, data: bytes) -> None:
        try:
            self._anybody().submit(data)
            self.counts["handed_in"] += 1
        except Refused as error:
            # A node that is behind does not know Alice yet, or sees a nonce too far ahead.
            self.counts[f"refused.{error.rule}"] += 1
        self.open[hash32(data)] = (data, trio.current_time())

    def _look(self) -> None:
        for action_id, (data, since_s) in list(self.open.items()):
            if any(
                member.node is not None and member.node.ledger.receipt(action_id) is not None
                for member in self._swarm.members.values()
            ):
                del self.open[action_id]
                self.committed.append(action_id)
            elif trio.current_time() - since_s > AGAIN_S:
                self._hand_in(data)


async def _settle(swarm: Libp2pNodes, clients: _Clients) -> None:
    before = swarm.top()
    ended_s = trio.current_time()
    while trio.current_time() < ended_s + SETTLE_S:
        await trio.sleep(BEAT_S)
        heights = swarm.checker.heights
        grown = all(heights.get(name, 0) >= before + GROWTH_BLOCKS for name in swarm.members)
        if grown and not clients.open and not any(_missing(swarm, clients, name) for name in swarm.members):
            break
    clients.counts["settled_ms"] = round(1000 * (trio.current_time() - ended_s))
    clients.counts["height_before"] = before
    clients.counts["height"] = swarm.top()
    for name in swarm.members:
        swarm.checker.grown(name, before=before, wanted=before + GROWTH_BLOCKS)


def _missing(swarm: Libp2pNodes, clients: _Clients, name: str) -> set[Hash32]:
    ledger = swarm.node(name).ledger
    return {action_id for action_id in clients.all_ids if ledger.receipt(action_id) is None}


def _judge(swarm: Libp2pNodes, clients: _Clients) -> None:
    wanted = clients.all_ids
    clients.counts["actions"] = len(wanted)
    swarm.checker.same_roots(swarm.history)
    for name in swarm.members:
        swarm.checker.all_committed(name, wanted, wanted - _missing(swarm, clients, name))
