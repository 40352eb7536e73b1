from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack_actions import grant, register


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with LedgerChain(tmp_path / "home") as chain:
        chain.do(chain.authority, register("alice"))
        chain.do(chain.authority, grant("alice", 5))
    return tmp_path / "home"


def test_a_sound_home(run: Callable[..., Any], home: Path) -> None:
    ran = run("world", "verify", "--home", home, "--json")
    assert ran.code == 0
    assert (ran.json["ok"], ran.json["height"], ran.json["actions"], ran.json["problems"]) == (True, 2, 2, [])
    text = run("world", "verify", "--home", home)
    assert text.code == 0
    assert "heights executed   2 of 2" in text.out
    assert text.out.endswith("everything checks out\n")


def test_a_damaged_home(run: Callable[..., Any], home: Path) -> None:
    with closing(sqlite3.connect(home / "world.db")) as database, database:
        database.execute("UPDATE blocks SET certificate = x'00' WHERE height = 2")
    ran = run("world", "verify", "--home", home)
    assert ran.code == 65
    assert "WRONG  height 2: certificate" in ran.err
    assert "problems found" in ran.out
    as_json = run("world", "verify", "--home", home, "--json")
    assert as_json.code == 65
    assert as_json.json["ok"] is False
    assert as_json.json["problems"][0]["height"] == 2


@pytest.mark.parametrize("name", ["nothing", "."])
def test_what_is_no_home(run: Callable[..., Any], tmp_path: Path, name: str) -> None:
    ran = run("world", "verify", "--home", tmp_path / name)
    assert (ran.code, ran.out) == (65, "")
