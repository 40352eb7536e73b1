"""Whole nodes on real libp2p hosts over the simulated internet."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from agent_world.config import NetConfig, NodeConfig
from agent_world.net.dht_records import RecordRules
from agent_world.net.interface import DistributedDht, DistributedNetwork
from agent_world.net.libp2p.dht import Libp2pDht
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.node.provision import NodeSpec
from agent_world.testing.node_swarm import Member, NodeSwarm
from agent_world.testing.sim_libp2p.internet import PORT, SimInternet, address_of
from agent_world.testing.sim_libp2p.transport import SimTransport, serve_transport


class Libp2pNodes(NodeSwarm):
    """A swarm of one world whose members reach each other through ``internet``. Satisfies ``faults.Sufferers``."""

    def __init__(
        self, directory: Path, nodes: tuple[NodeSpec, ...], internet: SimInternet, config: NodeConfig, seed: int
    ) -> None:
        self.internet = internet
        self._addresses = {spec.name: address_of(number) for number, spec in enumerate(nodes)}
        self._starts = 0
        super().__init__(directory, nodes, config, seed)

    def ip_of(self, name: str) -> str:
        """A member's IP address, for partitions."""
        return self._addresses[name]

    def listen_addresses(self, member: Member) -> tuple[str, ...]:
        """The member's own IP address."""
        return (f"/ip4/{self.ip_of(member.name)}/tcp/{PORT}",)

    def addresses(self) -> list[str]:
        """Of all members."""
        return list(self._addresses.values())

    async def crash(self, address: str, *, silently: bool) -> None:
        """End the process of the member at ``address``; its home stays."""
        self.internet.crash(address, silently=silently)
        await self.stop(self._name_of(address))

    async def restart(self, address: str) -> None:
        """From its home."""
        await self.start(self._name_of(address))

    def _name_of(self, address: str) -> str:
        return next(name for name, known in self._addresses.items() if known == address)

    def sever(self, member: Member) -> None:
        """The kernel tells the others, where no wall is in between."""
        self.internet.crash(self.ip_of(member.name))

    @asynccontextmanager
    async def open_network(self, member: Member, config: NetConfig) -> AsyncIterator[DistributedNetwork]:
        """A libp2p host."""
        self._starts += 1
        transport = SimTransport(self.internet, self.ip_of(member.name))
        rng = random.Random(f"network {self.seed} {self._starts}")
        async with trio.open_nursery() as nursery:
            serve_transport(nursery, transport)
            async with Libp2pNetwork.open(config, member.node_key, transport=transport, rng=rng) as network:
                yield network
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def open_dht(
        self, member: Member, network: DistributedNetwork, rules: RecordRules
    ) -> AsyncIterator[DistributedDht]:
        """Kademlia of that host."""
        assert isinstance(network, Libp2pNetwork), "what open_network gave"
        async with Libp2pDht.open(network, rules, random.Random(f"dht {self.seed} {self._starts}")) as dht:
            yield dht
