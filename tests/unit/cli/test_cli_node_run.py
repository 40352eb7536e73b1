from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from agent_world.node.settings import build_settings
from agent_world.store.home import Home
from agent_world.wire.ids import PublicKey, peer_id_of
from agent_world.world.genesis import genesis_hash, parse_genesis

OTHER = peer_id_of(PublicKey(bytes([9]) * 32))
THERE = f"/ip4/10.0.0.9/tcp/4001/p2p/{OTHER}"


@pytest.fixture
def swarm(run: Callable[..., Any], tmp_path: Path) -> Path:
    assert run("testnet", "init", tmp_path / "net", "--triad", "--base-port", 5000).code == 0
    return tmp_path / "net"


def snapshot(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def shown(run: Callable[..., Any], home: Path, *options: str) -> dict[str, Any]:
    ran = run("node", "run", "--home", home, "--print-config", *options)
    assert ran.code == 0, ran.err
    table = tomllib.loads(ran.out)
    build_settings(table, "x")
    return table


def test_the_effective_settings_are_shown_and_options_win(run: Callable[..., Any], swarm: Path) -> None:
    home = swarm / "storage"
    before = snapshot(home)
    plain = shown(run, home)
    assert (plain["role"], plain["topology"]) == ("storage", "triad_distributed")
    assert plain["net"]["listen"] == ["/ip4/127.0.0.1/tcp/5001"]
    changed = shown(
        run, home, "--role", "OBSERVER", "--topology", "triad_distributed", "--listen", "/ip4/0.0.0.0/tcp/1",
        "--listen", "/ip6/::/tcp/1", "--bootstrap", THERE, "--set", "consensus.block_interval_ms=7",
        "--set", "net.heartbeat_s=2", "--set", "consensus.create_empty_blocks=FALSE",
    )  # fmt: skip
    assert changed["role"] == "observer"
    assert changed["net"]["listen"] == ["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1"]
    assert changed["net"]["bootstrap"] == [THERE]
    assert changed["net"]["heartbeat_s"] == 2.0
    assert changed["consensus"]["block_interval_ms"] == 7
    assert changed["consensus"]["create_empty_blocks"] is False
    assert snapshot(home) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--topology", "triad_distributed"), "needs --role"),
        (("--topology", "star"), "--topology"),
        (("--role", "king"), "--role"),
        (("--listen", "localhost:4001"), "localhost:4001"),
        (("--bootstrap", "/ip4/10.0.0.9/tcp/4001"), "names no peer"),
        (("--bootstrap", f"/ip4/127.0.0.1/tcp/5001/p2p/{OTHER}"), "own address"),
        (("--set", "colour=red"), "section.key=value"),
        (("--set", "net.colour=red"), "unknown key net.colour"),
        (("--set", "colour.depth=1"), "unknown key 'colour'"),
        (("--set", "role.x=1"), "role is not a section"),
        (("--set", "net.request_timeout_s=inf"), "finite"),
        (("--set", "net.hello_interval_s=-1"), "above 0"),
        (("--set", "net.connections_max=many"), "must be a int"),
    ],
)
def test_wrong_options_are_usage_errors(
    run: Callable[..., Any], swarm: Path, options: tuple[str, ...], words: str
) -> None:
    ran = run("node", "run", "--home", swarm / "storage", "--print-config", *options)
    assert (ran.code, ran.out) == (64, "")
    assert words in ran.err


@pytest.mark.parametrize("role", ["storage", "observer"])
def test_a_triad_node_without_bootstrap_is_a_usage_error(run: Callable[..., Any], swarm: Path, role: str) -> None:
    """T-8.15: the option that is missing is named."""
    toml = swarm / role / "node.toml"
    table = tomllib.loads(toml.read_text())
    table["net"]["bootstrap"] = []
    toml.write_text(tomli_w.dumps(table))
    ran = run("node", "run", "--home", swarm / role, "--role", role, "--topology", "triad_distributed")
    assert ran.code == 64
    assert "needs --bootstrap" in ran.err


def test_no_home(run: Callable[..., Any], tmp_path: Path) -> None:
    ran = run("node", "run", "--home", tmp_path / "nothing")
    assert (ran.code, ran.out) == (65, "")
    assert "is not a node's home" in ran.err
    assert not (tmp_path / "nothing").exists()


def test_a_foreign_directory_stays_as_it_is(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[server]\nport = 80\n")
    before = snapshot(tmp_path)
    ran = run("node", "run", "--home", tmp_path)
    assert ran.code == 65
    assert snapshot(tmp_path) == before


def test_a_home_of_another_world(run: Callable[..., Any], swarm: Path) -> None:
    toml = swarm / "sequencer" / "genesis.toml"
    toml.write_text(toml.read_text().replace("epoch_length_slots = 32", "epoch_length_slots = 33"))
    before = snapshot(swarm / "sequencer")
    ran = run("node", "run", "--home", swarm / "sequencer")
    assert ran.code == 65
    assert "belongs to another world" in ran.err
    after = snapshot(swarm / "sequencer")
    assert {path: after[path] for path in before} == before


def test_a_home_that_runs_already(run: Callable[..., Any], swarm: Path) -> None:
    genesis = parse_genesis((swarm / "genesis.toml").read_text(), "x")
    with Home.open(swarm / "sequencer", genesis_hash(genesis)):
        ran = run("node", "run", "--home", swarm / "sequencer")
    assert ran.code == 65
    assert "in use by another process (pid " in ran.err


@pytest.mark.parametrize("name", ["world.db", "node.key", "genesis.toml", "node.toml"])
def test_damaged_homes(run: Callable[..., Any], swarm: Path, name: str) -> None:
    file = swarm / "sequencer" / name
    file.write_bytes(b"\x00garbage" * 100)
    before = snapshot(swarm / "sequencer")
    ran = run("node", "run", "--home", swarm / "sequencer")
    assert ran.code in (64, 65)
    assert name in ran.err
    after = snapshot(swarm / "sequencer")
    assert {path: after[path] for path in before} == before


def test_a_validator_without_its_guard(run: Callable[..., Any], swarm: Path) -> None:
    home = swarm / "sequencer"
    assert run("validator", "guard", "init", "--home", home).code == 0
    for name in ("guard.db", "guard.log"):
        (home / name).unlink()
    ran = run("node", "run", "--home", home, "--listen", "/ip4/127.0.0.1/tcp/0")
    assert ran.code == 65
    assert f"validator guard init --home {home} --lost" in ran.err


def test_the_guard_of_another_validator(run: Callable[..., Any], swarm: Path) -> None:
    home, other = swarm / "sequencer", swarm / "storage"
    for path in (home, other):
        assert run("validator", "guard", "init", "--home", path).code == 0
    for name in ("guard.db", "guard.log"):
        (home / name).write_bytes((other / name).read_bytes())
    ran = run("node", "run", "--home", home, "--listen", "/ip4/127.0.0.1/tcp/0")
    assert ran.code == 65
    assert "belongs to another" in ran.err
    for name in ("guard.db", "guard.log"):
        assert (home / name).read_bytes() == (other / name).read_bytes()


def test_the_authority_does_not_vote(run: Callable[..., Any], swarm: Path) -> None:
    file = swarm / "sequencer" / "validator.key"
    file.write_bytes((swarm / "authority.key").read_bytes())
    ran = run("node", "run", "--home", swarm / "sequencer", "--listen", "/ip4/127.0.0.1/tcp/0")
    assert ran.code == 64
    assert "not in this world's validator set" in ran.err
