from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_world.consensus.guard import state_of
from agent_world.consensus.guard_records import GuardEntry, GuardRecord
from agent_world.crypto.hashing import hash32
from agent_world.errors import DatabaseDamaged, HomeError
from agent_world.store import schema
from agent_world.store.database import Database
from agent_world.store.durable import no_fault
from agent_world.store.guard_database import GuardDatabase
from agent_world.wire.consensus import Step
from agent_world.wire.ids import U32, U64, PublicKey

GENESIS = hash32(b"genesis")
KEY = PublicKey(bytes(range(32)))


def record_of(sequence: int) -> GuardRecord:
    entry = GuardEntry(height=U64(sequence), round=U32(0), step=Step.PREVOTE, signed=b"signed %d" % sequence)
    return GuardRecord(sequence=U64(sequence), sign_floor=U64(0), entry=entry, lock=None, valid=None)


RECORDS = tuple(record_of(number) for number in range(1, 5))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guard.db"


@pytest.fixture
def database(path: Path) -> Iterator[GuardDatabase]:
    database = GuardDatabase.create(path, GENESIS, KEY, RECORDS[:2])
    for made in RECORDS[2:]:
        database.append(made, 0, no_fault)
    yield database
    database.close()


def test_what_was_stored_is_read_after_a_restart(path: Path, database: GuardDatabase) -> None:
    database.close()
    again = GuardDatabase.open(path, GENESIS, KEY)
    content = again.read()
    assert (content.state, content.damage, content.touched_height) == (state_of(RECORDS), "", 4)
    again.close()


def test_another_world_or_key_is_refused(path: Path, database: GuardDatabase) -> None:
    database.close()
    with pytest.raises(HomeError, match="another world"):
        GuardDatabase.open(path, hash32(b"other"), KEY)
    with pytest.raises(HomeError, match="another validator key"):
        GuardDatabase.open(path, GENESIS, PublicKey(bytes(32)))


def test_a_file_without_its_validator_is_half_made(path: Path) -> None:
    Database.create(path, schema.GUARD, GENESIS).close()
    with pytest.raises(DatabaseDamaged, match="half made"):
        GuardDatabase.open(path, GENESIS, KEY)


def test_old_heights_go_with_the_next_record(database: GuardDatabase) -> None:
    database.append(record_of(5), 3, no_fault)
    assert [row[0] for row in database._database.query("SELECT sequence FROM records")] == [3, 4, 5]
    assert database.read().state.sequence == 5


def test_replace(database: GuardDatabase) -> None:
    database.replace(RECORDS[1:3])
    assert database.read().state == state_of(RECORDS[1:3])


@pytest.mark.parametrize("column", ["record", "checksum"])
def test_every_flipped_byte_is_found(database: GuardDatabase, column: str) -> None:
    rows = database._database
    original = rows.query(f"SELECT {column} FROM records WHERE sequence = 2")[0][0]
    for position in range(len(original)):
        data = bytearray(original)
        data[position] ^= 1 << position % 8
        rows.execute(f"UPDATE records SET {column} = ? WHERE sequence = 2", (bytes(data),))
        content = database.read()
        assert "record 2" in content.damage
        assert (content.state, content.touched_height) == (state_of(RECORDS[:1]), 4)


@pytest.mark.parametrize(
    "change", ["DELETE FROM records WHERE sequence = 2", "UPDATE records SET sequence = 9 WHERE sequence = 2"]
)
def test_missing_and_moved_records_are_found(database: GuardDatabase, change: str) -> None:
    database._database.execute(change)
    content = database.read()
    assert content.damage
    assert (content.state.sequence, content.touched_height) == (1, 4)
