"""Whole nodes on libp2p hosts go through faults; then all must have one chain with everything that was handed in."""

from __future__ import annotations

import random
from functools import partial
from typing import Final

import trio

from agent_world.config import MINIMAL, require
from agent_world.testing.node_swarm import specs
from agent_world.testing.sim_libp2p.determinism import replay
from agent_world.testing.sim_libp2p.faults import CALM, EVERY_FAULT, STORM, FaultPlan, suffer
from agent_world.testing.sim_libp2p.internet import open_internet
from agent_world.testing.sim_libp2p.nodes import Libp2pNodes
from agent_world.testing.sim_libp2p.report import SimReport, make_report
from agent_world.testing.swarm_clients import Clients, judge, settle, temporary_homes

NODES_MIN: Final = 6


def simulate_nodes(seed: int, *, nodes: int = NODES_MIN, plan: FaultPlan = EVERY_FAULT) -> SimReport:
    """One run of four validators, a storage node and observers, through every kind of fault."""
    require(nodes >= NODES_MIN, f"whole nodes are at least {NODES_MIN}: four validators, a storage node, an observer")
    report: SimReport = replay(seed, partial(_through_faults, seed, nodes, plan))
    return report


async def _through_faults(seed: int, nodes: int, plan: FaultPlan, rng: random.Random) -> SimReport:
    wanted = specs(validators=4, storage=1, observers=nodes - 5)
    async with open_internet(rng, CALM) as internet:
        with temporary_homes() as directory:
            async with Libp2pNodes(directory, wanted, internet, MINIMAL, seed).open() as swarm:
                await swarm.start_all()
                await swarm.until_height(2)
                clients = Clients(swarm, rng)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(clients.run)
                    internet.weather = STORM
                    for fault in plan.drawn(rng):
                        await suffer(fault, swarm, rng, plan.each_s)
                    internet.weather = CALM
                    clients.is_acting = False
                    await settle(swarm, clients, swarm.members)
                    nursery.cancel_scope.cancel()
                judge(swarm, clients, swarm.members)
                for name in swarm.members:
                    clients.counts["repaired_actions"] += swarm.counters(name).get("repair.actions", 0)
                    clients.counts["synced_heights"] += swarm.counters(name).get("sync.heights", 0)
                internet.note("histories", swarm.history)
        return make_report("nodes", seed, len(wanted), internet, swarm.checker.violations, clients.counts)
