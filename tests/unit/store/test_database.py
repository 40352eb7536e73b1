from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.errors import DatabaseDamaged, HomeError, LocalError
from agent_world.store.database import Database, Schema

GENESIS = hash32(b"genesis")
TABLE = ("CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT) STRICT",)
V1 = Schema(application_id=77, migrations=(TABLE,))
V2 = Schema(application_id=77, migrations=(TABLE, ("ALTER TABLE t ADD COLUMN y TEXT",)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.db"
    Database.create(path, V1, GENESIS).close()
    return path


def insert_and_fail(database: Database, number: int) -> None:
    with database.transaction():
        database.execute("INSERT INTO t VALUES (?, 'a')", (number,))
        raise KeyError


def test_create_replaces_nothing(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(HomeError, match="not overwritten"):
        Database.create(path, V1, GENESIS)
    assert path.read_bytes() == before


def test_a_commit_is_durable_and_in_wal_mode(path: Path) -> None:
    database = Database.open(path, V1, GENESIS)
    assert database.query("PRAGMA journal_mode") == [("wal",)]
    assert database.query("PRAGMA synchronous") == [(2,)]
    with database.transaction():
        database.execute("INSERT INTO t VALUES (1, 'a')")
    other = Database.open(path, V1, read_only=True)
    assert other.query("SELECT * FROM t") == [(1, "a")]
    other.close()
    database.close()


def test_an_exception_undoes_everything(path: Path) -> None:
    database = Database.open(path, V1, GENESIS)
    with pytest.raises(KeyError):
        insert_and_fail(database, 1)
    assert database.query("SELECT * FROM t") == []
    database.close()


def test_a_nested_transaction_can_fail_alone(path: Path) -> None:
    database = Database.open(path, V1, GENESIS)
    with database.transaction():
        database.execute("INSERT INTO t VALUES (1, 'a')")
        with pytest.raises(KeyError):
            insert_and_fail(database, 2)
        with database.transaction():
            database.execute("INSERT INTO t VALUES (3, 'c')")
    assert database.query("SELECT n FROM t ORDER BY n") == [(1,), (3,)]
    database.close()


def test_migration_keeps_the_rows(path: Path) -> None:
    database = Database.open(path, V1, GENESIS)
    with database.transaction():
        database.execute("INSERT INTO t VALUES (1, 'a')")
    database.close()
    with pytest.raises(HomeError, match="older schema 1"):
        Database.open(path, V2, GENESIS, read_only=True)
    database = Database.open(path, V2, GENESIS)
    assert database.query("SELECT n, x, y FROM t") == [(1, "a", None)]
    assert database.query("PRAGMA user_version") == [(2,)]
    database.close()
    with pytest.raises(HomeError, match="has schema 2, this program knows up to 1"):
        Database.open(path, V1, GENESIS)


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    broken = Schema(application_id=77, migrations=(TABLE, ("ALTER TABLE t ADD COLUMN y TEXT", "NOT SQL")))
    with pytest.raises(HomeError):
        Database.open(path, broken, GENESIS)
    database = Database.open(path, V1, GENESIS)
    assert database.query("SELECT name FROM pragma_table_info('t')") == [("n",), ("x",)]
    database.close()


def test_other_worlds_and_other_kinds_are_refused(path: Path) -> None:
    with pytest.raises(HomeError, match="another world"):
        Database.open(path, V1, hash32(b"other"))
    with pytest.raises(HomeError, match="something else"):
        Database.open(path, Schema(application_id=78, migrations=(TABLE,)), GENESIS)
    foreign = path.with_name("foreign.db")
    connection = sqlite3.connect(foreign)
    connection.execute("PRAGMA user_version = 4")
    connection.close()
    with pytest.raises(HomeError, match="something else"):
        Database.open(foreign, V1, GENESIS)


def test_missing_empty_cut_and_scrambled_files_are_damaged(path: Path) -> None:
    data = path.read_bytes()
    with pytest.raises(DatabaseDamaged, match="missing"):
        Database.open(path.with_name("absent.db"), V1, GENESIS)
    for number, content in enumerate((b"", b"SQL", data[:4096], data[: len(data) - 4096], bytes(len(data)))):
        cut = path.with_name(f"cut{number}.db")
        cut.write_bytes(content)
        with pytest.raises(DatabaseDamaged):
            Database.open(cut, V1, GENESIS)
        assert cut.read_bytes() == content


def test_a_file_that_was_never_filled_is_half_made(tmp_path: Path) -> None:
    path = tmp_path / "half.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (n)")
    connection.close()
    with pytest.raises(DatabaseDamaged, match="half made"):
        Database.open(path, V1, GENESIS)


def test_errors_say_whose_fault_they_are(path: Path) -> None:
    database = Database.open(path, V1, GENESIS)
    with database.transaction():
        database.execute("INSERT INTO t VALUES (1, 'a')")
    with pytest.raises(LocalError, match="UNIQUE"), database.transaction():
        database.execute("INSERT INTO t VALUES (1, 'b')")
    database.close()
    with pytest.raises(LocalError):
        database.query("SELECT 1")
    reader = Database.open(path, V1, read_only=True)
    with pytest.raises(LocalError, match="reading only"), reader.transaction():
        pass
    with pytest.raises(HomeError, match="readonly"):
        reader.execute("INSERT INTO t VALUES (2, 'b')")
    reader.close()


def test_readers_work_beside_a_writer_in_the_middle_of_a_transaction(path: Path) -> None:
    writer = Database.open(path, V1, GENESIS)
    with writer.transaction():
        writer.execute("INSERT INTO t VALUES (1, 'a')")
        readers = [Database.open(path, V1, GENESIS, read_only=True) for _ in range(3)]
        assert [reader.query("SELECT * FROM t") for reader in readers] == [[], [], []]
    assert [reader.query("SELECT n FROM t") for reader in readers] == [[(1,)]] * 3
    for database in (*readers, writer):
        database.close()


def test_a_second_writer_is_told_that_the_file_is_busy(path: Path) -> None:
    first, second = (Database.open(path, V1, GENESIS) for _ in range(2))
    second.execute("PRAGMA busy_timeout = 0")
    with first.transaction():
        first.execute("INSERT INTO t VALUES (1, 'a')")
        with pytest.raises(HomeError, match="another program has it open"), second.transaction():
            pass
    second.close()
    first.close()
