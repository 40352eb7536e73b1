"""guard.db: the vote guard's records in an SQLite file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from agent_world.consensus.guard import GuardState, apply
from agent_world.consensus.guard_records import GuardRecord
from agent_world.crypto.hashing import hash32
from agent_world.errors import DatabaseDamaged, DataError, HomeError
from agent_world.store import schema
from agent_world.store.database import Database, Row
from agent_world.store.durable import FaultHook, no_fault
from agent_world.wire.ids import Hash32, PublicKey


@attrs.frozen(slots=True)
class DatabaseContent:
    """What could be read."""

    state: GuardState
    """After the records up to the first damage."""
    damage: str
    """What is wrong with a record; empty if nothing is."""
    touched_height: int
    """Highest height named by any row, also behind the damage."""


class GuardDatabase:
    """An open guard.db."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def create(
        cls, path: Path, genesis_hash: Hash32, validator_key: PublicKey, records: tuple[GuardRecord, ...]
    ) -> GuardDatabase:
        """Make the file with these records; raises HomeError if the name is taken."""
        database = Database.create(path, schema.GUARD, genesis_hash)
        made = cls(database)
        with database.transaction():
            database.execute("INSERT INTO identity VALUES (1, ?)", (validator_key,))
            made._insert(records)
        return made

    @classmethod
    def open(cls, path: Path, genesis_hash: Hash32, validator_key: PublicKey) -> GuardDatabase:
        """What it holds is durable then. Raises DatabaseDamaged, or HomeError if it is of another world or key."""
        database = Database.open(path, schema.GUARD, genesis_hash)
        try:
            rows = database.query("SELECT validator_key FROM identity")
            if not rows:
                raise DatabaseDamaged(f"{path} is half made: it does not name its validator")
            if rows[0][0] != validator_key:
                raise HomeError(
                    f"{path} belongs to another validator key; it is neither used nor changed: put that key's "
                    "guard or this guard's key into the home"
                )
            # A process that was killed may have written its last record and not synced it; nobody may act on it before.
            database.fold()
        except BaseException:
            database.close()
            raise
        return cls(database)

    def read(self) -> DatabaseContent:
        """Fold all records; damage to one is reported, not raised."""
        state, damage, touched = GuardState(), "", 0
        for row in self._database.query("SELECT sequence, height, record, checksum FROM records ORDER BY sequence"):
            try:
                made = _record(row)
                touched = max(touched, made.height)
                state = state if damage else apply(state, made)
            except DataError as error:
                damage = damage or str(error)
                touched = max(touched, row[1] if isinstance(row[1], int) else 0)
        return DatabaseContent(state, damage, touched)

    def append(
        self, made: GuardRecord, first_sequence: int | None, fault: FaultHook, data: bytes | None = None
    ) -> None:
        """Store one record durably, and drop those before ``first_sequence`` if one is given; raises HomeError.

        ``data`` is the record's bytes, if they are at hand.
        """
        with self._database.transaction():
            self._database.execute(_INSERT, _row(made, data or made.to_bytes()))
            if first_sequence is not None:
                self._database.execute("DELETE FROM records WHERE sequence < ?", (first_sequence,))
            fault("guard_database_begun")

    def replace(self, records: tuple[GuardRecord, ...], fault: FaultHook = no_fault) -> None:
        """Store these records instead of all there are, in one transaction; raises HomeError."""
        with self._database.transaction():
            self._database.execute("DELETE FROM records")
            self._insert(records)
            fault("guard_database_begun")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _insert(self, records: tuple[GuardRecord, ...]) -> None:
        self._database.execute_many(_INSERT, [_row(made, made.to_bytes()) for made in records])


_INSERT: Final = "INSERT INTO records VALUES (?, ?, ?, ?)"


def _row(made: GuardRecord, data: bytes) -> Row:
    return made.sequence, made.height, data, hash32(data)


def _record(row: Row) -> GuardRecord:
    sequence, _, data, checksum = row
    if not isinstance(data, bytes) or hash32(data) != checksum:
        raise DataError(f"record {sequence} does not match its checksum")
    made = GuardRecord.from_bytes(data)
    if made.sequence != sequence:
        raise DataError(f"record {made.sequence} is stored as {sequence}")
    return made
