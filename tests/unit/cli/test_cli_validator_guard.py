from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.consensus.guard_records import SignRequest
from agent_world.crypto.hashing import hash32
from agent_world.errors import NotSafe
from agent_world.store import keyfile
from agent_world.store.guard import GuardStore
from agent_world.store.home import Home, HomeLayout
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import WORLD_ID, make_key
from agent_world.testing.stack_actions import register
from agent_world.wire import record
from agent_world.wire.consensus import Step, Vote
from agent_world.wire.ids import U32, U64

BLOCK = hash32(b"block")
Run = Callable[..., Any]


@pytest.fixture
def chain(tmp_path: Path) -> LedgerChain:
    """A closed home whose validator has signed at height 3, the one after the last committed."""
    with LedgerChain(tmp_path / "home") as chain:
        chain.do(chain.authority, register("alice"))
        chain.do(chain.authority, register("bob"))
        with GuardStore.open(chain.home, chain.voter, committed_height=0) as guard:
            for height in (1, 2, 3):
                guard.permit(prevote(height))
    return chain


def prevote(height: int, block: Any = BLOCK) -> SignRequest:
    body = Vote(world_id=WORLD_ID, height=U64(height), round=U32(0), step=Step.PREVOTE, block_hash=block)
    data = record.to_bytes(body)
    return SignRequest(
        height=height, round=U32(0), step=Step.PREVOTE, body=data, block_hash=block, lock=None, valid=None
    )


def copy_of(chain: LedgerChain, name: str, *, guard: bool) -> Path:
    """The same home elsewhere, as a new machine would have it after syncing."""
    path = chain.path.with_name(name)
    shutil.copytree(chain.path, path)
    if not guard:
        for file in path.glob("guard.*"):
            file.unlink()
        with Home.open(path, chain.genesis_hash) as home:
            home.database.execute("DELETE FROM guard_made")
    return path


def permits(chain: LedgerChain, path: Path, request: SignRequest, **options: Any) -> bool:
    with (
        Home.open(path, chain.genesis_hash) as home,
        GuardStore.open(home, chain.voter, committed_height=2, **options) as guard,
    ):
        try:
            guard.permit(request)
        except NotSafe:
            return False
        return True


def lose(path: Path) -> None:
    for file in path.glob("guard.*"):
        file.unlink()


# --- export and import -----------------------------------------------------------------------------------------------


def test_a_guard_moves_to_another_home(run: Run, chain: LedgerChain, tmp_path: Path) -> None:
    file = tmp_path / "guard.json"
    exported = run("validator", "guard", "export", "--home", chain.path, file, "--json")
    assert exported.code == 0, exported.err
    assert exported.json["watermark"] == {"height": 3, "round": 0, "step": "prevote"}
    assert exported.json["messages"] == 3
    target = copy_of(chain, "target", guard=False)
    taken = run("validator", "guard", "import", "--home", target, file, "--json")
    assert taken.code == 0, taken.err
    assert taken.json == {
        "validator_key": chain.voter.public_key.hex(), "guard_made": True, "messages": 3, "messages_known": 0,
        "sign_floor_before": None, "sign_floor": 3, "changed": True, "contradictions": [],
    }  # fmt: skip
    again = run("validator", "guard", "import", "--home", target, file, "--json").json
    assert (again["changed"], again["guard_made"], again["sign_floor"]) == (False, False, 3)
    assert not permits(chain, target, prevote(3, hash32(b"other")))
    assert permits(chain, target, prevote(4))


def test_the_own_export_changes_nothing(run: Run, chain: LedgerChain, tmp_path: Path) -> None:
    printed = run("validator", "guard", "export", "--home", chain.path)
    assert printed.json["metadata"]["validator_key"] == chain.voter.public_key.hex()
    file = tmp_path / "guard.json"
    file.write_text(printed.out)
    taken = run("validator", "guard", "import", "--home", chain.path, file, "--json").json
    assert (taken["changed"], taken["messages_known"]) == (False, 3)
    assert permits(chain, chain.path, prevote(3))


def test_what_two_homes_have_signed_differently_is_told(run: Run, chain: LedgerChain, tmp_path: Path) -> None:
    target = copy_of(chain, "target", guard=False)
    assert permits(chain, target, prevote(3, hash32(b"other")), was_seated=False)
    file = tmp_path / "guard.json"
    run("validator", "guard", "export", "--home", chain.path, file)
    taken = run("validator", "guard", "import", "--home", target, file, "--json")
    assert taken.code == 0
    assert [item["height"] for item in taken.json["contradictions"]] == [3]
    assert "warning: height 3 round 0 prevote" in taken.err


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda value: value["metadata"].update(world_id="other"), "metadata.world_id"),
        (lambda value: value["metadata"].update(validator_key="00" * 32), "metadata.validator_key"),
        (lambda value: value["signed"][1].update(round="0"), "signed[1].round"),
    ],
)
def test_a_wrong_file_changes_nothing(
    run: Run, chain: LedgerChain, tmp_path: Path, change: Callable[[Any], None], place: str
) -> None:
    value = json.loads(run("validator", "guard", "export", "--home", chain.path).out)
    change(value)
    file = tmp_path / "guard.json"
    file.write_text(json.dumps(value))
    target = copy_of(chain, "target", guard=False)
    ran = run("validator", "guard", "import", "--home", target, file)
    assert ran.code == 64
    assert place in ran.err
    assert not HomeLayout(target).guard_db.exists()
    assert not HomeLayout(target).guard_log.exists()


def test_files_that_cannot_be_read_or_written(run: Run, chain: LedgerChain, tmp_path: Path) -> None:
    assert run("validator", "guard", "import", "--home", chain.path, tmp_path / "none").code == 64
    taken = tmp_path / "there"
    taken.write_text("something")
    ran = run("validator", "guard", "export", "--home", chain.path, taken)
    assert (ran.code, taken.read_text()) == (64, "something")
    assert run("validator", "guard", "export", "--home", chain.path, tmp_path / "no" / "file").code == 64


def test_homes_that_have_no_guard_to_carry(run: Run, chain: LedgerChain, tmp_path: Path) -> None:
    assert run("validator", "guard", "export", "--home", tmp_path).code == 65
    assert run("validator", "guard", "export", "--home", copy_of(chain, "bare", guard=False)).code == 64
    lost = copy_of(chain, "lost", guard=True)
    file = tmp_path / "guard.json"
    run("validator", "guard", "export", "--home", chain.path, file)
    lose(lost)
    ran = run("validator", "guard", "import", "--home", lost, file)
    assert ran.code == 65  # an older file must not pass for what was lost
    assert "--lost" in ran.err
    HomeLayout(lost).validator_key.unlink()
    assert run("validator", "guard", "export", "--home", lost).code == 64


def test_a_running_node_keeps_its_guard_to_itself(run: Run, chain: LedgerChain) -> None:
    with Home.open(chain.path, chain.genesis_hash):
        for name in ("export", "init"):
            ran = run("validator", "guard", name, "--home", chain.path)
            assert ran.code == 65
            assert "in use by another process" in ran.err


# --- init ------------------------------------------------------------------------------------------------------------


def test_a_lost_guard_is_made_anew_after_a_question(
    run: Run, chain: LedgerChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(chain.path)
    without = run("validator", "guard", "init", "--home", chain.path)
    assert without.code == 65
    assert "it is not known what it signed" in without.err
    answers = iter([False, True])
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _text: "y" if next(answers) else "n")
    refused = run("validator", "guard", "init", "--home", chain.path, "--lost")
    assert refused.code == 130
    assert "forgotten for good" in refused.err
    assert not HomeLayout(chain.path).guard_db.exists()
    made = run("validator", "guard", "init", "--home", chain.path, "--lost", "--json")
    assert made.code == 0, made.err
    assert (made.json["sign_floor"], made.json["waits_for_a_new_height"]) == (3, True)
    assert not permits(chain, chain.path, prevote(9))
    again = run("validator", "guard", "init", "--home", chain.path, "--lost", "--yes")
    assert again.code == 64
    assert "waits for a height that begins" in again.err
    exported = run("validator", "guard", "export", "--home", chain.path)
    assert exported.code == 65
    assert "does not know all" in exported.err


def test_no_question_with_yes(run: Run, chain: LedgerChain) -> None:
    lose(chain.path)
    assert run("validator", "guard", "init", "--home", chain.path, "--lost", "--yes").code == 0


def test_both_files_damaged(run: Run, chain: LedgerChain) -> None:
    for file in (HomeLayout(chain.path).guard_db, HomeLayout(chain.path).guard_log):
        file.write_bytes(b"scrambled")
    assert run("validator", "guard", "init", "--home", chain.path).code == 65
    assert run("validator", "guard", "init", "--home", chain.path, "--lost", "--yes").code == 0


def test_one_file_damaged_is_no_loss(run: Run, chain: LedgerChain) -> None:
    HomeLayout(chain.path).guard_db.write_bytes(b"scrambled")
    ran = run("validator", "guard", "init", "--home", chain.path, "--json")
    assert ran.code == 0
    assert ran.json["found"].startswith("guard.db: ")
    assert ran.json["waits_for_a_new_height"]


def test_a_world_that_stands_still_is_set_going_by_the_operators_word(
    run: Run, chain: LedgerChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    init = ("validator", "guard", "init", "--home", chain.path)
    lose(chain.path)
    ran = run(*init, "--at-once")
    assert (ran.code, "add --lost" in ran.err) == (64, True)
    assert not HomeLayout(chain.path).guard_db.exists()
    assert run(*init, "--lost", "--yes").code == 0
    answers = iter([False, True])
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _text: "y" if next(answers) else "n")
    refused = run(*init, "--lost", "--at-once")
    assert refused.code == 130
    assert "signs at height 3 at once" in refused.err
    assert not permits(chain, chain.path, prevote(3))
    made = run(*init, "--lost", "--at-once", "--json")
    assert (made.json["sign_floor"], made.json["waits_for_a_new_height"]) == (2, False)
    assert not permits(chain, chain.path, prevote(2))
    assert permits(chain, chain.path, prevote(3))


def test_at_once_is_asked_once_and_keeps_what_is_known(run: Run, chain: LedgerChain) -> None:
    lost, torn = copy_of(chain, "lost", guard=True), copy_of(chain, "torn", guard=True)
    lose(lost)
    made = run("validator", "guard", "init", "--home", lost, "--lost", "--at-once", "--yes", "--json")
    assert (made.json["sign_floor"], made.json["waits_for_a_new_height"]) == (2, False)
    HomeLayout(torn).guard_db.unlink()
    made = run("validator", "guard", "init", "--home", torn, "--lost", "--at-once", "--yes", "--json")
    assert (made.json["sign_floor"], made.json["waits_for_a_new_height"]) == (2, False)
    assert made.json["found"] == "guard.db: it is missing"
    assert not permits(chain, torn, prevote(3, None))
    assert permits(chain, torn, prevote(3))


def test_a_sound_guard_is_not_touched(run: Run, chain: LedgerChain) -> None:
    for options in ((), ("--lost", "--yes"), ("--lost", "--at-once", "--yes")):
        ran = run("validator", "guard", "init", "--home", chain.path, *options)
        assert ran.code == 64
        assert "a vote guard that is sound" in ran.err
    assert permits(chain, chain.path, prevote(3))


def test_the_guard_of_another_key(run: Run, chain: LedgerChain) -> None:
    key = HomeLayout(chain.path).validator_key
    key.unlink()
    keyfile.write(key, make_key("other"))
    for name in ("init", "export"):
        ran = run("validator", "guard", name, "--home", chain.path)
        assert ran.code == 65
        assert "another world or validator key" in ran.err


# --- rotate ----------------------------------------------------------------------------------------------------------


def test_a_next_key_is_made_once(run: Run, chain: LedgerChain) -> None:
    ran = run("validator", "rotate", "--home", chain.path, "--json")
    assert ran.code == 0
    files = HomeLayout(chain.path)
    key = keyfile.read(files.validator_next_key)
    assert ran.json["next_public_key"] == key.public_key.hex()
    assert ran.json["public_key"] == chain.voter.public_key.hex()
    assert f":{key.public_key.hex()}:" in ran.json["propose"]
    assert files.validator_next_key.stat().st_mode & 0o777 == 0o600
    again = run("validator", "rotate", "--home", chain.path)
    assert again.code == 65
    assert "never overwritten" in again.err
    assert keyfile.read(files.validator_next_key).public_key == key.public_key


def test_only_a_validator_rotates(run: Run, chain: LedgerChain, tmp_path: Path) -> None:
    assert run("validator", "rotate", "--home", tmp_path).code == 64
    HomeLayout(chain.path).validator_key.unlink()
    assert run("validator", "rotate", "--home", chain.path).code == 64
    assert not HomeLayout(chain.path).validator_next_key.exists()
