"""The stack tier in memory (D8): real nodes with real homes on the in-memory network, in virtual time, from one seed.

Use inside a trio run with ``MockClock(autojump_threshold=0)``, so that nothing sleeps and everything follows the seed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from agent_world.config import MINIMAL, NetConfig, NodeConfig
from agent_world.net.dht_records import RecordRules
from agent_world.net.interface import DistributedDht, DistributedNetwork
from agent_world.net.memory import InMemoryNetwork, LinkSettings
from agent_world.net.memory_dht import InMemoryDhtStore
from agent_world.node.provision import NodeSpec
from agent_world.testing.node_swarm import (
    EPOCH_LENGTH_SLOTS,
    GENESIS_TIME_MS,
    WORLD_ID,
    Member,
    NodeSwarm,
    make_genesis,
    make_key,
    specs,
)
from agent_world.testing.seeded_scheduler import seeded_scheduler

__all__ = [
    "GENESIS_TIME_MS",
    "WORLD_ID",
    "Stack",
    "make_genesis",
    "make_key",
    "open_stack",
    "seeded_scheduler",
    "specs",
]


class Stack(NodeSwarm):
    """A swarm of one world in memory. Made by ``open_stack``."""

    def __init__(
        self,
        directory: Path,
        nodes: tuple[NodeSpec, ...],
        hub: InMemoryNetwork,
        config: NodeConfig,
        *,
        seed: int,
        epoch_length_slots: int,
    ) -> None:
        self.hub = hub
        self.dht = InMemoryDhtStore(RecordRules(lambda _key, _value: None, lambda _key, values: len(values) - 1))
        """What all members find and put; every node applies its own rules."""
        self.cut_off: set[str] = set()
        """Members to which no DHT peer answers."""
        super().__init__(directory, nodes, config, seed, epoch_length_slots=epoch_length_slots)

    def listen_addresses(self, member: Member) -> tuple[str, ...]:
        """The hub's."""
        return self.hub.node(member.peer_id).listen_addresses()

    def sever(self, member: Member) -> None:
        """Nothing: who is cancelled sends no more."""

    @asynccontextmanager
    async def open_network(self, member: Member, config: NetConfig) -> AsyncIterator[DistributedNetwork]:
        """The hub's node."""
        try:
            yield self.hub.node(member.peer_id)
        finally:
            self.hub.remove(member.peer_id)

    @asynccontextmanager
    async def open_dht(
        self, member: Member, network: DistributedNetwork, rules: RecordRules
    ) -> AsyncIterator[DistributedDht]:
        """The one of all, unless the member is cut off."""
        yield self.dht.node(member.peer_id, is_reachable=lambda: member.name not in self.cut_off, rules=rules)


@asynccontextmanager
async def open_stack(
    directory: Path,
    nodes: tuple[NodeSpec, ...],
    *,
    seed: int = 1,
    link: LinkSettings | None = None,
    config: NodeConfig = MINIMAL,
    epoch_length_slots: int = EPOCH_LENGTH_SLOTS,
) -> AsyncIterator[Stack]:
    """A stack whose members are made but not started; leaving stops all and raises if an invariant was broken."""
    hub = InMemoryNetwork(Random(f"hub {seed}"), link, config=config.net)
    made = Stack(directory, nodes, hub, config, seed=seed, epoch_length_slots=epoch_length_slots)
    async with hub.open(), made.open() as stack:
        yield stack
    assert stack.checker.violations == [], stack.checker.violations
