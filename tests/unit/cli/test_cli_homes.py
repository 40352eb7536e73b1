"""Commands that work on a stopped home: node rollback, node reset, world replay, validator list."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent_world.node.stopped import StoppedHome
from agent_world.store.guard import GuardStore
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import make_key
from agent_world.testing.stack_actions import grant, pay, register
from agent_world.wire.ids import ValidatorId
from agent_world.wire.membership import ChangeKind, MembershipChange

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "home"
    with LedgerChain(path) as chain:
        GuardStore.open(chain.home, chain.voter, committed_height=0).close()
        chain.do(chain.authority, register("alice"))
        chain.do(chain.authority, grant("alice", 5))
        chain.do(make_key("alice"), pay("alice", 1), pay("nobody", 1))
    return path


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


def change(home: Path, sql: str, *parameters: object) -> None:
    with closing(sqlite3.connect(home / "world.db")) as database, database:
        assert database.execute(sql, parameters).rowcount > 0


def damage_state(home: Path) -> None:
    with StoppedHome(home) as stopped:
        root = stopped.head.state_root
    change(home, "UPDATE blobs SET data = x'00' WHERE content_hash = ?", bytes(root.digest))


def test_rollback_mends_the_last_state(run: Run, home: Path) -> None:
    damage_state(home)
    assert run("world", "verify", "--home", home).code == 65
    ran = run("node", "rollback", "--home", home, "--json")
    assert ran.code == 0
    assert (ran.json["from_height"], ran.json["height"], ran.json["blobs_repaired"]) == (3, 3, 1)
    assert run("world", "verify", "--home", home).code == 0
    text = run("node", "rollback", "--home", home, "--from", 1)
    assert (text.code, "state_root" in text.out) == (0, True)


def test_rollback_refuses_with_the_codes_of_the_others(run: Run, home: Path) -> None:
    assert run("node", "rollback", "--home", home, "--from", 0).code == 64
    ran = run("node", "rollback", "--home", home, "--from", 4)
    assert (ran.code, "heights 1 to 3" in ran.err) == (64, True)
    assert run("node", "rollback", "--home", home.parent).code == 65
    change(home, "UPDATE blocks SET certificate = x'00' WHERE height = 3")
    ran = run("node", "rollback", "--home", home)
    assert (ran.code, "certificate" in ran.err) == (65, True)


def test_replay_shows_a_row_a_height(run: Run, home: Path) -> None:
    ran = run("world", "replay", "--home", home, "--json")
    assert (ran.code, ran.json["origin"], ran.json["difference"]) == (0, "genesis", None)
    rows = [(row["height"], row["actions"], row["rejected"], row["differences"]) for row in ran.json["heights"]]
    assert rows == [(1, 1, 0, []), (2, 1, 0, []), (3, 2, 1, [])]
    text = run("world", "replay", "--home", home, "--from", 2, "--to", 2)
    assert text.out.splitlines()[0] == "began at the stored state of height 1"
    assert text.out.splitlines()[2].split()[:5] == ["2", "1", "1", "0", "1"]


@pytest.mark.parametrize(
    ("sql", "height", "field"),
    [
        ("UPDATE receipts SET position = 9 WHERE height = 2", 2, "receipt row of "),
        ("UPDATE blocks SET certificate = x'00' WHERE height = 2", 2, "certificate"),
    ],
)
def test_replay_names_the_first_difference(run: Run, home: Path, sql: str, height: int, field: str) -> None:
    change(home, sql)
    ran = run("world", "replay", "--home", home, "--json")
    assert (ran.code, ran.json["difference"]["height"]) == (65, height)
    assert ran.json["difference"]["field"].startswith(field)
    text = run("world", "replay", "--home", home)
    assert (text.code, f"DIFFERS  height {height}: {field}" in text.err) == (65, True)


def test_replay_of_heights_that_are_not_there(run: Run, home: Path) -> None:
    assert run("world", "replay", "--home", home, "--from", 3, "--to", 2).code == 64
    assert run("world", "replay", "--home", home, "--to", 4).code == 64
    assert run("world", "replay", "--home", home.parent).code == 65


def test_reset_of_a_validator_wants_a_word_on_its_guard(run: Run, home: Path) -> None:
    before = {path: path.read_bytes() for path in home.iterdir() if path.is_file() and path.name != "lock"}
    for options in ((), ("--yes",)):
        ran = run("node", "reset", "--home", home, *options)
        assert (ran.code, "--keep-guard" in ran.err) == (64, True)
    assert run("node", "reset", "--home", home, "--keep-guard", "--yes-lose-guard", "--yes").code == 64
    ran = run("node", "reset", "--home", home, "--keep-guard")
    assert (ran.code, "add --yes" in ran.err) == (64, True)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(("option", "guard"), [("--keep-guard", "kept"), ("--yes-lose-guard", "lost")])
def test_reset_empties_the_home(run: Run, home: Path, option: str, guard: str) -> None:
    ran = run("node", "reset", "--home", home, option, "--yes", "--json")
    assert (ran.code, ran.json["guard"]) == (0, guard)
    assert ran.json["removed_bytes"] > 0
    assert (home / "guard.db").exists() is (guard == "kept")
    assert run("node", "inspect", "--home", home, "--once", "--json").json["consensus"]["committed_height"] == 0


def test_reset_does_not_make_a_lost_guard_look_like_a_new_one(run: Run, home: Path) -> None:
    (home / "guard.db").unlink()
    (home / "guard.log").unlink()
    ran = run("node", "reset", "--home", home, "--keep-guard", "--yes")
    assert (ran.code, "no vote guard to keep" in ran.err) == (64, True)
    assert run("node", "inspect", "--home", home, "--once", "--json").json["consensus"]["committed_height"] == 3


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 130)])
def test_reset_asks_who_sits_there(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    for name in ("validator.key", "guard.db", "guard.log"):
        (home / name).unlink()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _prompt: answer.strip())
    ran = run("node", "reset", "--home", home)
    assert ran.code == code
    height = run("node", "inspect", "--home", home, "--once", "--json").json["consensus"]["committed_height"]
    assert height == (3 if code else 0)


def test_reset_refuses_what_runs_and_what_is_no_home(run: Run, home: Path, tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "running"):
        ran = run("node", "reset", "--home", tmp_path / "running", "--keep-guard", "--yes")
        assert (ran.code, "in use" in ran.err) == (65, True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter").touch()
    assert run("node", "reset", "--home", tmp_path / "folder", "--yes").code == 65
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["letter"]


def test_validators_of_a_stopped_home(run: Run, tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "home") as chain:
        payload = MembershipChange(
            kind=ChangeKind.REMOVE, validators=(), removed=(ValidatorId("v1"),), with_lease=False, reason=None
        )
        chain.do(chain.voter, payload)
        ran = run("validator", "list", "--home", chain.path)
        assert (ran.code, "in use" in ran.err) == (65, True), "a process that answers no control API"
    ran = run("validator", "list", "--home", tmp_path / "home")
    assert ran.code == 0
    assert "epoch 0, 30 slots to the boundary" in ran.out
    assert "v1" in ran.out
    shown = run("validator", "list", "--home", tmp_path / "home", "--json").json
    assert shown["current"]["validators"][0]["stake"] == 100
    lease = run("lease", "status", "--home", tmp_path / "home", "--json").json
    assert (lease["term"], lease["holder_id"], lease["held_here"]) == (0, None, False)


def test_open_changes_of_a_stopped_home(run: Run, tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "home", others={ValidatorId("v2"): make_key("v2")}) as chain:
        payload = MembershipChange(
            kind=ChangeKind.REMOVE, validators=(), removed=(ValidatorId("v2"),), with_lease=False, reason=None
        )
        chain.do(chain.voter, payload)
    (row,) = run("validator", "changes", "--home", tmp_path / "home", "--json").json
    assert (row["requester_id"], row["approvals"], row["change"]["removed"]) == ("v1", ["v1"], ["v2"])
    assert row["change_id"] in run("validator", "changes", "--home", tmp_path / "home").out


def test_validators_of_a_running_node(run: Run, node: Any) -> None:
    entry = {"validator_id": "v1", "public_key": "ab", "stake": 7}
    shown = {"hash": "00", "total_stake": 7, "required_stake": 5, "validators": [entry]}
    filed = {
        "change_id": "cd" * 32, "approved_stake": 3, "rejected_stake": 0, "required_stake": 5, "lapses_after_epoch": 4,
        "change": {"change": {"kind": "remove_validator"}, "requester_id": "v1", "approvals": ["v1"], "rejections": []},
    }  # fmt: skip
    offence = {
        "place": {"key": "ab", "height": 3, "round": 1},
        "equivocation": {"validator_id": "v9", "kind": "double_prevote", "evidence": "ef", "recorded_at_height": 5},
    }
    answer = {
        "height": 9, "epoch": 2, "slots_to_boundary": None, "current": shown, "coming": shown, "changes": [filed],
        "equivocations": 1, "newest_equivocations": [offence], "lease_term": 0, "lease": None,
    }  # fmt: skip
    node.answers["GET /validators"] = 200, answer
    assert run("validator", "list", "--home", node.home, "--json").json == answer
    text = run("validator", "list", "--home", node.home).out
    for words in ("the epoch does not end", "coming", "3/5", "remove_validator", "double_prevote", "cd" * 32):
        assert words in text
