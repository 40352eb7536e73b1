from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.net.address import parse_peer
from agent_world.node.settings import build_settings, read_settings
from agent_world.world.genesis import genesis_hash, parse_genesis


def test_a_swarm_as_json(run: Callable[..., Any], tmp_path: Path) -> None:
    ran = run("testnet", "init", tmp_path / "net", "--validators", 2, "--storage", 1, "--observers", 0, "--json")
    assert ran.code == 0
    genesis = parse_genesis((tmp_path / "net" / "genesis.toml").read_text(), "x")
    assert ran.json["world_id"] == genesis.world_id == "testnet"
    assert ran.json["genesis_hash"] == genesis_hash(genesis).hex()
    assert [(node["name"], node["role"]) for node in ran.json["nodes"]] == [
        ("sequencer-1", "sequencer"), ("sequencer-2", "sequencer"), ("storage-1", "storage"),
    ]  # fmt: skip
    assert [entry.validator_id for entry in genesis.validators.validators] == ["sequencer-1", "sequencer-2"]
    for node in ran.json["nodes"]:
        parse_peer(node["multiaddr"])
        assert Path(node["home"]).is_dir()


def test_a_triad_says_how_to_start_it(run: Callable[..., Any], tmp_path: Path) -> None:
    ran = run("testnet", "init", tmp_path / "net", "--triad", "--world", "my.world", "--base-port", 5000)
    assert ran.code == 0
    assert "world my.world" in ran.out
    for role in ("sequencer", "storage", "observer"):
        home = tmp_path / "net" / role
        assert f"agent-world node run --home {home}" in ran.out
        assert build_settings(read_settings(home / "node.toml"), "x").topology == "triad_distributed"
    assert "bootstrap address: /ip4/127.0.0.1/tcp/5000/p2p/12D3KooW" in ran.out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--world", "My World"), "--world"),
        (("--world", ""), "--world"),
        (("--host", "localhost"), "not an IP address"),
        (("--host", "localhost", "--base-port", "4000"), "not an IP address"),
        (("--validators", "0"), "--validators"),
        (("--storage", "-1"), "--storage"),
        (("--base-port", "70000"), "--base-port"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    run: Callable[..., Any], tmp_path: Path, options: tuple[str, ...], word: str
) -> None:
    ran = run("testnet", "init", tmp_path / "net", *options)
    assert ran.code == 64
    assert word in ran.err
    assert not (tmp_path / "net").exists()


def test_nothing_is_overwritten(run: Callable[..., Any], tmp_path: Path) -> None:
    assert run("testnet", "init", tmp_path / "net", "--triad").code == 0
    before = {path: path.read_bytes() for path in sorted((tmp_path / "net").rglob("*")) if path.is_file()}
    again = run("testnet", "init", tmp_path / "net", "--triad")
    assert again.code == 64
    assert "not empty" in again.err
    assert before == {path: path.read_bytes() for path in sorted((tmp_path / "net").rglob("*")) if path.is_file()}
