"""agent-world world save and world load."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack_actions import register

Run = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with LedgerChain(tmp_path / "home") as chain:
        chain.do(chain.authority, register("alice"))
    return tmp_path / "home"


def test_a_world_is_saved_and_loaded(run: Run, home: Path, tmp_path: Path) -> None:
    saved = run("world", "save", tmp_path / "backup", "--home", home, "--json")
    assert (saved.code, saved.json["height"], saved.json["events"]) == (0, 1, 1)
    loaded = run("world", "load", tmp_path / "backup", "--into", home, "--json")
    assert (loaded.code, loaded.json["status"], loaded.json["parts_put_back"]) == (0, "distfs_restored", 0)
    assert loaded.json["state_root"] == saved.json["state_root"]
    assert json.loads((tmp_path / "backup" / "journal.json").read_text())["journal"][0]["kind"] == "agent.registered"


def test_what_cannot_be_restored_is_an_error(run: Run, home: Path, tmp_path: Path) -> None:
    assert run("world", "load", tmp_path / "none").code == 64
    (tmp_path / "empty").mkdir()
    ran = run("world", "load", tmp_path / "empty")
    assert ran.code == 65
    assert "snapshot.json is missing" in ran.err
    assert run("world", "save", tmp_path / "backup", "--home", tmp_path / "empty").code == 65
