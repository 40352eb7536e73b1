from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent_world.crypto.keys import KeyPair
from agent_world.errors import GuardLost, HomeError
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore, CommittedHeight
from agent_world.store.durable import RESET_PREFIX
from agent_world.store.guard import GuardStore
from agent_world.store.home import Home, HomeLayout, locked_home
from agent_world.store.reset import RESET_STEPS, reset_home
from agent_world.wire.ids import Hash32

KEEPS = ("genesis.toml", "node.toml", "node.key", "validator.key")


@pytest.fixture
def used(home_path: Path, chain_of: object, validator_key: KeyPair, genesis: Hash32) -> Path:
    """A validator's home with blocks, a blob that is a file, and a guard."""
    heights: list[CommittedHeight] = chain_of(3)  # type: ignore[operator]
    with Home.open(home_path, genesis) as home:
        chain = ChainStore(home, LocalCasStore(home))
        for committed in heights:
            chain.commit_height(committed)
        GuardStore.open(home, validator_key, committed_height=0).close()
    assert any(file.is_file() for file in HomeLayout(home_path).blobs.rglob("*"))
    return home_path


def kept(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in KEEPS}


def reset(path: Path, genesis: Hash32, *, keep_guard: bool = True) -> int:
    with locked_home(path) as files:
        return reset_home(files, genesis, keep_guard=keep_guard).files


def height(path: Path, genesis: Hash32) -> int:
    with Home.open(path, genesis) as home:
        return ChainStore(home, LocalCasStore(home)).committed_height


@pytest.mark.parametrize("keep_guard", [True, False])
def test_what_the_home_is_stays_and_what_it_holds_goes(used: Path, genesis: Hash32, keep_guard: bool) -> None:
    before, guard = kept(used), (used / "guard.log").read_bytes()
    (used / "control.sock").touch()
    assert reset(used, genesis, keep_guard=keep_guard) >= 4
    assert kept(used) == before
    assert (used / "guard.db").exists() is (used / "guard.log").exists() is keep_guard
    if keep_guard:
        assert (used / "guard.log").read_bytes() == guard
    assert not any((used / "blobs").iterdir())
    assert not (used / "control.sock").exists()
    assert not list(used.glob(".tmp-*"))
    assert height(used, genesis) == 0
    with Home.open(used, genesis) as home:
        assert LocalCasStore(home).usage().blobs == 0


def test_a_guard_that_is_lost_after_the_reset_is_not_made_anew(
    used: Path, genesis: Hash32, validator_key: KeyPair
) -> None:
    reset(used, genesis)
    for name in ("guard.db", "guard.log"):
        (used / name).unlink()
    with Home.open(used, genesis) as home, pytest.raises(GuardLost):
        GuardStore.open(home, validator_key, committed_height=0)


@pytest.mark.parametrize("step", RESET_STEPS)
def test_a_crash_at_any_step_leaves_the_old_home_or_the_new_one(
    used: Path, genesis: Hash32, validator_key: KeyPair, tmp_path: Path, step: str
) -> None:
    image = tmp_path / "image"

    def crash(done: str) -> None:
        if done == step:
            shutil.copytree(used, image)

    before = kept(used)
    with locked_home(used) as files:
        reset_home(files, genesis, keep_guard=False, fault=crash)
    assert kept(image) == before
    expected = 3 if step in ("made", "folded") else 0
    with Home.open(image, genesis) as home:
        chain = ChainStore(home, LocalCasStore(home))
        assert chain.committed_height == expected
        if expected:
            assert LocalCasStore(home).get_many(LocalCasStore(home).iterate()).keys()
        GuardStore.open(home, validator_key, committed_height=chain.committed_height).close()
    assert not list(image.glob(f"{RESET_PREFIX}*")), "the next opening removes what was left"
    reset(image, genesis)
    assert height(image, genesis) == 0


def test_a_log_of_a_crash_is_not_applied_to_the_new_database(used: Path, genesis: Hash32, tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    with Home.open(used, genesis) as home:
        LocalCasStore(home).put(b"only in the log")
        shutil.copytree(used, crashed, ignore=shutil.ignore_patterns("*-shm"))
    assert (crashed / "world.db-wal").stat().st_size
    reset(crashed, genesis)
    assert not (crashed / "world.db-wal").exists()
    assert height(crashed, genesis) == 0


@pytest.mark.parametrize("damage", [None, b"", b"garbage" * 1000])
def test_a_home_whose_database_is_broken_can_be_reset(used: Path, genesis: Hash32, damage: bytes | None) -> None:
    if damage is None:
        (used / "world.db").unlink()
    else:
        (used / "world.db").write_bytes(damage)
    (used / "world.db-wal").write_bytes(b"of the broken one")
    reset(used, genesis)
    assert height(used, genesis) == 0


def test_a_home_in_use_and_what_is_no_home_are_refused(used: Path, genesis: Hash32, tmp_path: Path) -> None:
    with Home.open(used, genesis), pytest.raises(HomeError, match="in use"), locked_home(used):
        pass
    (tmp_path / "empty").mkdir()
    with pytest.raises(HomeError, match="not a home"), locked_home(tmp_path / "empty"):
        pass
    assert not list((tmp_path / "empty").iterdir())


def test_a_disk_that_refuses_is_said(used: Path, genesis: Hash32, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_options: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(HomeError, match="could not be reset"):
        reset(used, genesis)
    monkeypatch.undo()
    assert height(used, genesis) == 3
