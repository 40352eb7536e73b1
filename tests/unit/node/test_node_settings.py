"""Settings of a node, and who may start with whom (T-8.15).

Of T-8.15, roles with and without the addresses of others are here; options that are wrong, and that name what is
missing, in tests/unit/cli; ports that run over in test_node_provision.py. There is no option to run without a node or
to switch consensus off, so none has to be refused.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest

from agent_world.config import MAINNET, MINIMAL
from agent_world.errors import UsageError
from agent_world.node.settings import NodeSettings, Topology, build_settings, check_topology, read_settings
from agent_world.wire.hello import Role
from agent_world.wire.ids import PublicKey, peer_id_of

ME = peer_id_of(PublicKey(bytes([1]) * 32))
OTHER = peer_id_of(PublicKey(bytes([2]) * 32))
THERE = f"/ip4/10.0.0.2/tcp/4001/p2p/{OTHER}"


def built(**table: Any) -> NodeSettings:
    return build_settings({"role": "sequencer", **table}, "node.toml")


def test_defaults_and_what_is_given() -> None:
    settings = built(
        node_id="n1", role="STORAGE", consensus={"block_interval_ms": 7}, net={"listen": ["/ip4/1.2.3.4/tcp/5"]}
    )
    assert (settings.node_id, settings.role, settings.topology) == ("n1", Role.STORAGE, Topology.SINGLE)
    assert settings.config.consensus == attrs.evolve(MAINNET.consensus, block_interval_ms=7)
    assert settings.config.net == attrs.evolve(MAINNET.net, listen=("/ip4/1.2.3.4/tcp/5",))
    assert settings.config.mempool == MAINNET.mempool


@pytest.mark.parametrize("config", [MAINNET, MINIMAL])
def test_what_is_written_is_read_back(config: Any, tmp_path: Path) -> None:
    settings = NodeSettings(node_id="n", role=Role.OBSERVER, topology=Topology.TRIAD_DISTRIBUTED, config=config)
    (tmp_path / "node.toml").write_text(settings.to_toml())
    assert build_settings(read_settings(tmp_path / "node.toml"), "x") == settings
    assert tomllib.loads(settings.to_toml())["role"] == "observer"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"colour": 1}, ["unknown key 'colour'", "consensus"]),
        ({"net": {"colour": 1}}, ["unknown key net.colour", "listen"]),
        ({"net": 5}, ["net must be a table"]),
        ({"net": {"listen": "/ip4/1.2.3.4/tcp/5"}}, ["net.listen must be a list of texts"]),
        ({"net": {"listen": [5]}}, ["net.listen must be a list of texts"]),
        ({"net": {"connections_max": "many"}}, ["net.connections_max must be a int"]),
        ({"net": {"connections_max": True}}, ["net.connections_max"]),
        ({"net": {"request_timeout_s": "soon"}}, ["net.request_timeout_s"]),
        ({"net": {"request_timeout_s": float("inf")}}, ["net.request_timeout_s", "finite"]),
        ({"net": {"request_timeout_s": float("nan")}}, ["net.request_timeout_s", "finite"]),
        ({"net": {"request_timeout_s": 0}}, ["net.request_timeout_s must be above 0"]),
        ({"net": {"hello_interval_s": -1}}, ["net.hello_interval_s must be above 0"]),
        ({"consensus": {"create_empty_blocks": 1}}, ["consensus.create_empty_blocks must be a bool"]),
        ({"storage": {"pull_attempts_max": 0}}, ["storage.pull_attempts_max must be above 0"]),
        ({"role": "king"}, ["role 'king' is not one of sequencer, storage, observer"]),
        ({"role": None}, ["role is missing", "--role"]),
        ({"topology": "star"}, ["topology 'star' is not one of single, triad_distributed"]),
        ({"node_id": ""}, ["node_id must be a non-empty text"]),
        ({"node_id": 5}, ["node_id must be a non-empty text"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(table: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        build_settings({"role": "sequencer", **table}, "node.toml")
    assert caught.value.exit_code == 64
    for word in words:
        assert word in str(caught.value)


def test_integers_do_for_seconds() -> None:
    assert built(net={"request_timeout_s": 3}).config.net.request_timeout_s == 3.0


@pytest.mark.parametrize(("text", "word"), [("a = ", "not valid TOML"), (None, "cannot read")])
def test_files_that_cannot_be_read(tmp_path: Path, text: str | None, word: str) -> None:
    path = tmp_path / "node.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=word):
        read_settings(path)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot read"):
        read_settings(tmp_path / "node.toml")


def topology(role: str, *bootstrap: str, listen: str = "/ip4/10.0.0.1/tcp/4001") -> NodeSettings:
    net = {"bootstrap": list(bootstrap), "listen": [listen]}
    return built(role=role, topology="triad_distributed", net=net)


@pytest.mark.parametrize("role", list(Role))
def test_with_the_address_of_another_node_every_role_may_start(role: str) -> None:
    check_topology(topology(role, THERE), ME)


def test_a_sequencer_may_start_alone() -> None:
    check_topology(topology("sequencer"), ME)


@pytest.mark.parametrize("role", ["storage", "observer"])
def test_the_others_need_a_bootstrap_node(role: str) -> None:
    with pytest.raises(UsageError, match=f"a {role} node in triad_distributed needs --bootstrap"):
        check_topology(topology(role), ME)
    check_topology(built(role=role), ME)  # in other topologies they may wait to be found
    alone = topology(role)
    net = attrs.evolve(alone.config.net, mdns=True)
    check_topology(attrs.evolve(alone, config=attrs.evolve(alone.config, net=net)), ME)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    "own",
    [f"/ip4/10.0.0.9/tcp/9/p2p/{ME}", f"/ip4/10.0.0.1/tcp/4001/p2p/{OTHER}", f"/ip4/10.0.0.1/tcp/4001/p2p/{ME}"],
)
def test_the_own_address_is_no_bootstrap_node(role: str, own: str) -> None:
    with pytest.raises(UsageError, match="this node's own address"):
        check_topology(topology(role, THERE, own), ME)


def test_the_own_address_in_another_spelling() -> None:
    listen = "/ip6/0:0::1/tcp/04001"
    with pytest.raises(UsageError, match="this node's own address"):
        check_topology(topology("storage", f"/ip6/::1/tcp/4001/p2p/{OTHER}", listen=listen), ME)


@pytest.mark.parametrize("text", ["", "10.0.0.2:4001", "/ip4/10.0.0.2/tcp/4001", f"/ip4/0.0.0.0/tcp/1/p2p/{OTHER}"])
def test_a_bootstrap_address_that_is_none(text: str) -> None:
    with pytest.raises(UsageError):
        check_topology(topology("observer", text), ME)


def test_a_listen_address_that_is_none() -> None:
    with pytest.raises(UsageError, match="localhost"):
        check_topology(topology("observer", THERE, listen="/ip4/localhost/tcp/1"), ME)
