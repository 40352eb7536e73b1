"""mDNS on loopback: nothing is sent on any other interface."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from zeroconf import IPVersion, ServiceInfo, Zeroconf

from agent_world.config import MINIMAL
from agent_world.crypto.hashing import hash32
from agent_world.errors import UsageError
from agent_world.net.address import TcpAddress
from agent_world.net.counters import Counters
from agent_world.net.libp2p import mdns as module
from agent_world.net.libp2p.mdns import Mdns, lan_addresses, service_of
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.node.provision import SwarmSpec, make_swarm, triad_nodes
from agent_world.node.runner import load_home, run_nodes
from agent_world.node.settings import Topology
from agent_world.wire.ids import Hash32, PeerId, TimeMs, WorldId, peer_id_of

GENESIS, OTHER_GENESIS = hash32(b"one world"), hash32(b"another world")
HERE = "127.0.0.1"


@attrs.define
class Seeker:
    peer: PeerId
    counters: Counters
    found: set[tuple[PeerId, str]]
    mdns: Mdns
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)

    def count(self, name: str) -> int:
        return self.counters.snapshot().get(name, 0)


@asynccontextmanager
async def seeking(key: Any, port: int, genesis: Hash32 = GENESIS) -> AsyncIterator[Seeker]:
    peer, counters, found = peer_id_of(key.public_key), Counters(), set[tuple[PeerId, str]]()
    here = [TcpAddress("ip4", HERE, port)]
    mdns = Mdns(peer, genesis, here, counters, lambda peer, address: found.add((peer, address)))
    seeker = Seeker(peer, counters, found, mdns)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with seeker.scope:
                await seeker.mdns.run()

        nursery.start_soon(run)
        yield seeker
        nursery.cancel_scope.cancel()


async def test_peers_of_one_world_find_each_other_and_no_others(new_key: Any, until: Any) -> None:
    async with (
        seeking(new_key(), 4001) as one,
        seeking(new_key(), 4002) as two,
        seeking(new_key(), 4003, OTHER_GENESIS) as foreigner,
        seeking(new_key(), 4004, OTHER_GENESIS) as another,
    ):
        await until(lambda: one.found and two.found and foreigner.found and another.found)
        assert one.found == {(two.peer, f"/ip4/{HERE}/tcp/4002")}
        assert two.found == {(one.peer, f"/ip4/{HERE}/tcp/4001")}
        assert foreigner.found == {(another.peer, f"/ip4/{HERE}/tcp/4004")}
    assert not [thread.name for thread in threading.enumerate() if "zeroconf" in thread.name.lower()]


async def test_what_is_still_announced_is_told_again(new_key: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLD_AGAIN_S", 0.05)
    async with seeking(new_key(), 4001) as one, seeking(new_key(), 4002) as two:
        await until(lambda: one.count("mdns_found") >= 3)
        two.scope.cancel()
        await until(lambda: one.mdns._names == {f"{one.peer}.{service_of(GENESIS)}"})


@contextmanager
def announced(name: str, *hosts: str, port: int = 4001, **properties: Any) -> Iterator[None]:
    """An announcement that any program on the network might make."""
    zeroconf = Zeroconf(interfaces=[HERE], ip_version=IPVersion.V4Only)
    info = ServiceInfo(
        service_of(GENESIS), f"{name}.{service_of(GENESIS)}", port=port, properties=properties,
        addresses=[socket.inet_aton(host) for host in hosts], server=f"{name}.local.",
    )  # fmt: skip
    try:
        zeroconf.register_service(info, cooperating_responders=True)
        yield
    finally:
        zeroconf.close()


@pytest.mark.parametrize(
    ("hosts", "port", "peer"),
    [
        ((HERE,), 4001, b"nobody"),
        ((HERE,), 4001, b"\xff\xfe"),
        ((HERE,), 4001, None),
        ((HERE,), 0, "own"),
        (("8.8.8.8",), 4001, "own"),
        (("0.0.0.0",), 4001, "own"),
    ],
    ids=["no peer id", "no text", "no value", "no port", "a public address", "no address"],
)
async def test_announcements_of_nonsense(
    new_key: Any, until: Any, hosts: tuple[str, ...], port: int, peer: Any
) -> None:
    named = peer_id_of(new_key().public_key).encode() if peer == "own" else peer
    async with seeking(new_key(), 4002) as seeker:
        announcing = announced("somebody", *hosts, port=port, peer=named)
        await trio.to_thread.run_sync(announcing.__enter__)
        await until(lambda: seeker.count("mdns_wrong") >= 1)
        await trio.to_thread.run_sync(announcing.__exit__, None, None, None)
        assert seeker.found == set()


async def test_announcements_are_bounded(new_key: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMES_MAX", 1)
    async with seeking(new_key(), 4001) as one:
        await until(lambda: bool(one.scope))
        async with seeking(new_key(), 4002), seeking(new_key(), 4003):
            await until(lambda: one.count("mdns_dropped") >= 1)


async def test_a_network_without_mdns_is_no_fault_of_the_node(
    new_key: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise OSError("no multicast here")

    monkeypatch.setattr(module, "Zeroconf", refuse)
    async with seeking(new_key(), 4001) as one:
        await until(lambda: one.count("mdns_failed") == 1)


@pytest.mark.parametrize("listen", [(), ("/ip4/8.8.8.8/tcp/1",), ("/ip6/::1/tcp/1",)])
async def test_a_node_that_listens_to_nobody_near_is_told_so(listen: tuple[str, ...], new_key: Any) -> None:
    with pytest.raises(UsageError, match=r"net\.mdns needs"):
        lan_addresses(listen)
    if not listen:
        with pytest.raises(UsageError):
            async with Libp2pNetwork.open(attrs.evolve(MINIMAL.net, listen=listen, mdns=True), new_key()):
                raise AssertionError


def test_addresses_of_the_local_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_own_hosts", lambda: ["10.0.0.5", "8.8.8.8", "192.168.1.5"])
    found = lan_addresses(["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1", "/ip4/127.0.0.1/tcp/2"])
    assert list(map(str, found)) == ["/ip4/10.0.0.5/tcp/1", "/ip4/192.168.1.5/tcp/1"]


async def test_nodes_without_bootstrap_find_each_other(tmp_path: Path, until: Any) -> None:
    net = attrs.evolve(MINIMAL.net, mdns=True)
    spec = SwarmSpec(
        world_id=WorldId("mdns"),
        nodes=triad_nodes(),
        genesis_time_ms=TimeMs(1_700_000_000_000),
        topology=Topology.TRIAD_DISTRIBUTED,
        config=attrs.evolve(MINIMAL, net=net),
    )
    made = make_swarm(tmp_path / "swarm", spec)

    def alone(table: dict[str, Any]) -> None:
        table["net"]["bootstrap"] = []

    nodes: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_nodes, [load_home(node.home, alone) for node in made.nodes], nodes.extend)
        linked: Callable[[], bool] = lambda: bool(nodes) and all(len(node.peering.hellos) == 2 for node in nodes)  # noqa: E731
        await until(linked)
        # Who was found, or named by a neighbour, may be linked to both others before it has heard of them itself.
        await until(lambda: all(node.network.counters().get("mdns_found", 0) >= 1 for node in nodes))
        nursery.cancel_scope.cancel()
