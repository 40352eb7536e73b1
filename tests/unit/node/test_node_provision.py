from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import attrs
import pytest

from agent_world.config import MINIMAL
from agent_world.errors import UsageError
from agent_world.net.address import parse_peer
from agent_world.node.provision import AUTHORITY_KEY, NodeSpec, SwarmSpec, free_ports, make_swarm, triad_nodes
from agent_world.node.settings import Topology, build_settings, check_topology, read_settings
from agent_world.store import keyfile
from agent_world.store.home import Home
from agent_world.wire.hello import Role
from agent_world.wire.ids import Hash32, TimeMs, WorldId, peer_id_of
from agent_world.world.genesis import genesis_hash, parse_genesis


def spec(*nodes: NodeSpec, **changes: Any) -> SwarmSpec:
    plain = SwarmSpec(
        world_id=WorldId("w"), nodes=nodes or triad_nodes(), genesis_time_ms=TimeMs(1), base_port=4001, config=MINIMAL
    )
    return attrs.evolve(plain, **changes)


def node(name: str, role: Role = Role.SEQUENCER, *, validator: bool = True) -> NodeSpec:
    return NodeSpec(name=name, role=role, validator=validator)


def test_a_triad_is_three_homes_of_one_world(tmp_path: Path) -> None:
    made = make_swarm(tmp_path / "swarm", spec(topology=Topology.TRIAD_DISTRIBUTED))
    assert [item.role for item in made.nodes] == list(Role)
    text = (tmp_path / "swarm" / "genesis.toml").read_text()
    genesis = parse_genesis(text, "x")
    assert genesis_hash(genesis) == made.genesis_hash
    assert [entry.validator_id for entry in genesis.validators.validators] == sorted(role.value for role in Role)
    assert keyfile.read(made.authority_key).public_key == genesis.authority
    for index, item in enumerate(made.nodes):
        settings = build_settings(read_settings(item.home / "node.toml"), "x")
        peer, address = parse_peer(item.multiaddr)
        assert (settings.node_id, settings.role, settings.topology) == (
            item.name, item.role, Topology.TRIAD_DISTRIBUTED,
        )  # fmt: skip
        assert peer == peer_id_of(keyfile.read(item.home / "node.key").public_key)
        assert settings.config.net.listen == (address,) == (f"/ip4/127.0.0.1/tcp/{4001 + index}",)
        assert settings.config.net.bootstrap == (() if index == 0 else (made.nodes[0].multiaddr,))
        assert settings.config.consensus == MINIMAL.consensus
        check_topology(settings, peer)
        assert (item.home / "genesis.toml").read_text() == text
        with Home.open(item.home, Hash32(made.genesis_hash)) as home:
            voter = home.validator_key()
            assert voter is not None
            entries = {entry.validator_id: entry.public_key for entry in genesis.validators.validators}
            assert entries[item.name] == voter.public_key  # type: ignore[index]


def test_keys_are_their_owners_alone_and_all_different(tmp_path: Path) -> None:
    make_swarm(tmp_path / "swarm", spec())
    files = sorted((tmp_path / "swarm").rglob("*.key"))
    assert len(files) == 7
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert len({file.read_bytes() for file in files}) == 7


def test_who_has_no_vote_has_no_voting_key(tmp_path: Path) -> None:
    make_swarm(tmp_path, spec(node("v"), node("o", Role.OBSERVER, validator=False)))
    assert (tmp_path / "v" / "validator.key").exists()
    assert not (tmp_path / "o" / "validator.key").exists()


def test_free_ports_are_found(tmp_path: Path) -> None:
    made = make_swarm(tmp_path, spec(base_port=0))
    ports = {parse_peer(item.multiaddr)[1] for item in made.nodes}
    assert len(ports) == 3
    assert len(set(free_ports("127.0.0.1", 20))) == 20


def test_an_ipv6_host(tmp_path: Path) -> None:
    made = make_swarm(tmp_path, spec(host="::1"))
    assert "/ip6/::1/tcp/4001/" in made.nodes[0].multiaddr


@pytest.mark.parametrize("base_port", [65_534, 65_535])
def test_t_8_15_ports_that_run_over_are_refused_before_anything_is_written(tmp_path: Path, base_port: int) -> None:
    """T-8.15."""
    with pytest.raises(UsageError, match=f"3 nodes from port {base_port} on"):
        make_swarm(tmp_path / "swarm", spec(base_port=base_port))
    assert not (tmp_path / "swarm").exists()
    assert (
        make_swarm(tmp_path / "swarm", spec(base_port=65_533))
        .nodes[-1]
        .multiaddr.startswith("/ip4/127.0.0.1/tcp/65535/")
    )


@pytest.mark.parametrize("host", ["localhost", "example.org", "1.2.3", "", "1.2.3.4/24", "fe80::1%eth0"])
@pytest.mark.parametrize("base_port", [0, 4001])
def test_a_host_that_is_no_address_is_refused_before_anything_is_written(
    tmp_path: Path, host: str, base_port: int
) -> None:
    with pytest.raises(UsageError):
        make_swarm(tmp_path / "swarm", spec(host=host, base_port=base_port))
    assert not (tmp_path / "swarm").exists()


@pytest.mark.parametrize(
    ("nodes", "word"),
    [
        ((node("o", Role.OBSERVER, validator=False),), "at least one validator"),
        ((node("a"), node("a")), "same name"),
    ],
)
def test_swarms_that_cannot_be(tmp_path: Path, nodes: tuple[NodeSpec, ...], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        make_swarm(tmp_path / "swarm", spec(*nodes))
    assert not (tmp_path / "swarm").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / AUTHORITY_KEY).write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        make_swarm(tmp_path, spec())
    assert [path.name for path in tmp_path.iterdir()] == [AUTHORITY_KEY]
    with pytest.raises(UsageError, match="not empty"):
        make_swarm(tmp_path / AUTHORITY_KEY, spec())


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        make_swarm(tmp_path / "file" / "swarm", spec())
