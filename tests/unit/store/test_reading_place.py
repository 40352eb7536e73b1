from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.errors import HomeError
from agent_world.store.database import Database, Schema
from agent_world.store.reading_place import IMMUTABLE, READ_ONLY, has_wal, reading_place

GENESIS = hash32(b"genesis")
SCHEMA = Schema(application_id=77, migrations=(("CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT",),))


@pytest.fixture
def at_rest(tmp_path: Path) -> Path:
    path = tmp_path / "rest" / "x.db"
    path.parent.mkdir()
    Database.create(path, SCHEMA, GENESIS).close()
    return path


@pytest.fixture
def crashed(at_rest: Path, tmp_path: Path) -> Path:
    """What a process leaves that is killed: a row is in the log only, and the log's index is gone."""
    folder = tmp_path / "crashed"
    folder.mkdir()
    database = Database.open(at_rest, SCHEMA)
    with database.transaction():
        database.execute("INSERT INTO t VALUES (7)")
    for name in ("x.db", "x.db-wal"):
        shutil.copyfile(at_rest.parent / name, folder / name)
    database.close()
    return folder / "x.db"


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


def rows(path: Path) -> list[tuple[int]]:
    database = Database.open(path, SCHEMA, read_only=True, at_rest=True)
    try:
        return database.query("SELECT n FROM t")
    finally:
        database.close()


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """As on a disk mounted for reading only; root is somebody else meanwhile, whom modes hold back."""
    folder.chmod(0o555)
    for path in folder.iterdir():
        path.chmod(0o444)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Outside pytest's own folder, into which nobody else may look."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "d").mkdir()
        yield Path(name) / "d"


def test_a_file_at_rest_is_read_as_it_is(at_rest: Path) -> None:
    before = contents(at_rest)
    assert reading_place(at_rest, at_rest=True).mode == IMMUTABLE
    assert rows(at_rest) == []
    assert contents(at_rest) == before
    assert reading_place(at_rest, at_rest=False).mode == READ_ONLY


def test_what_is_only_in_the_log_of_a_crash_is_read(crashed: Path) -> None:
    before = contents(crashed)
    assert has_wal(crashed)
    assert rows(crashed) == [(7,)]
    after = contents(crashed)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"x.db-shm"}


def test_a_crash_on_a_disk_that_cannot_be_written(crashed: Path, public_folder: Path) -> None:
    path = public_folder / "x.db"
    for file in crashed.parent.iterdir():
        shutil.copyfile(file, public_folder / file.name)
    before = contents(path)
    with unwritable(public_folder):
        place = reading_place(path, at_rest=True)
        copy = place.path
        assert copy != path
        place.close()
        place.close()
        assert not copy.exists()
        assert rows(path) == [(7,)]
        assert contents(path) == before


def test_a_file_at_rest_on_a_disk_that_cannot_be_written(at_rest: Path, public_folder: Path) -> None:
    path = public_folder / "x.db"
    shutil.copyfile(at_rest, path)
    with unwritable(public_folder):
        assert reading_place(path, at_rest=False).mode == IMMUTABLE
        assert rows(path) == []
        assert list(public_folder.iterdir()) == [path]


def test_no_room_for_the_copy_is_said(crashed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.access", lambda *_args, **_options: False)
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(HomeError, match="TMPDIR"):
        reading_place(crashed, at_rest=True)
