from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN
from pathlib import Path

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.errors import HomeError, LocalError
from agent_world.store import writing_turns as module
from agent_world.store.database import Database, Schema
from agent_world.store.writing_turns import WritingTurns

GENESIS = hash32(b"genesis")
SCHEMA = Schema(application_id=77, migrations=(("CREATE TABLE t (who TEXT) STRICT",),))


def take(turns: WritingTurns, inside: Callable[[], None] = lambda: None) -> None:
    with turns.turn():
        inside()


def test_whoever_waits_begins_before_who_has_just_written(tmp_path: Path) -> None:
    path, turns = tmp_path / "x.db", WritingTurns(tmp_path)
    busy = Database.create(path, SCHEMA, GENESIS)

    def write(database: Database, who: str) -> None:
        with database.transaction():
            database.execute("INSERT INTO t VALUES (?)", (who,))

    def write_once() -> None:
        database = Database.open(path, SCHEMA, GENESIS)
        write(database, "the one that waits")
        database.close()

    with busy.transaction():
        other = threading.Thread(target=write_once)
        other.start()
        while turns._locked(LOCK_EX | LOCK_NB):  # until the other one has its turn, and waits for this transaction
            turns._locked(LOCK_UN)
    for _ in range(20):
        write(busy, "again")  # each at once, while SQLite lets the other one sleep
    other.join()
    assert busy.query("SELECT who FROM t LIMIT 1") == [("the one that waits",)]
    busy.close()
    turns.close()


def test_a_turn_that_does_not_come_is_a_home_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0)
    one, other = WritingTurns(tmp_path), WritingTurns(tmp_path)
    with one.turn(), pytest.raises(HomeError, match="in use"):
        take(other)
    take(other)
    one.close()
    other.close()


def test_where_directories_cannot_be_locked_there_are_no_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    one, other = WritingTurns(tmp_path), WritingTurns(tmp_path)
    with one.turn():
        take(other)
    one.close()
    other.close()


def test_it_ends_with_its_descriptor(tmp_path: Path) -> None:
    turns = WritingTurns(tmp_path)
    turns.close()
    turns.close()
    with pytest.raises(LocalError):
        take(turns)


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(HomeError):
        WritingTurns(tmp_path / "none")


def test_a_failure_in_a_turn_gives_it_back(tmp_path: Path) -> None:
    def fail() -> None:
        raise KeyError

    one, other = WritingTurns(tmp_path), WritingTurns(tmp_path)
    with pytest.raises(KeyError):
        take(one, fail)
    take(other)
    one.close()
    other.close()
