"""One SQLite file in WAL mode: its schema with migrations, transactions, and errors that say what to do.

Calls are synchronous. Every sqlite3 error leaves here as a StoreFault (the disk refuses), another HomeError (the file)
or a LocalError (our own statement broke a constraint), so no other module knows sqlite3's exceptions.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from agent_world.errors import DatabaseDamaged, HomeError, LocalError
from agent_world.store.disk_faults import (
    DiskFaults,
    Doing,
    lost_transaction,
    not_readable,
    not_writable,
    sqlite_fault,
)
from agent_world.store.reading_place import Place, has_wal, reading_place
from agent_world.store.writing_turns import WritingTurns
from agent_world.wire.ids import Hash32
from agent_world.wire.limits import MIB

Row = tuple[Any, ...]

BUSY_TIMEOUT_MS: Final = 5_000
"""Wait for another process's short write; the home's lock keeps long ones out."""
QUICK_CHECK_BYTES_MAX: Final = 64 * MIB
"""Files up to this size are checked as a whole when opened (about 0.1 s); larger ones by ``check``."""
WAL_BYTES_KEPT_MAX: Final = 64 * MIB
"""The write-ahead log is cut back to this after a checkpoint."""
_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100
"""Source: sqlite.org/fileformat2.html, as the offsets of page size (16) and length in pages (28)."""
_GENESIS_HASH: Final = "genesis_hash"
_META: Final = "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID"
_PLACE: Final = "database"
_RESTORE: Final = "restore the home from a copy, or make a new one and let it sync"


@attrs.frozen(slots=True, kw_only=True)
class Schema:
    """What a database file is and how it came to be; version n is the first n ``migrations`` applied in order."""

    application_id: int
    """SQLite's 32-bit tag of the file's kind, so that a foreign database is never touched."""
    migrations: tuple[tuple[str, ...], ...]
    """SQL statements; a released migration is never changed, only followed by another."""

    @property
    def version(self) -> int:
        """The newest version this program knows."""
        return len(self.migrations)


class Database:
    """An open database of one world. Made by ``create`` and ``open``; close it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.faults = DiskFaults()
        """What the disk of this home refuses at present; the files beside the database are told of here too."""
        self._connection = connection
        self._place = Place(path, "")
        self._depth = 0
        try:
            self._turns = None if read_only else WritingTurns(path.parent)
        except HomeError:
            connection.close()
            raise

    @classmethod
    def create(cls, path: Path, schema: Schema, genesis_hash: Hash32) -> Database:
        """Make a new file for the world of ``genesis_hash``; raises HomeError if the name is taken."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            raise HomeError(f"{path} exists already; it is not overwritten") from None
        except OSError as error:
            raise not_writable(f"{path} cannot be made", error) from None
        database = cls(path, _connect(Place(path, "mode=rw")), read_only=False)
        try:
            database._tune()
            with database.transaction():
                database.execute(f"PRAGMA application_id = {schema.application_id}")
                database.execute(_META)
                database.execute("INSERT INTO meta VALUES (?, ?)", (_GENESIS_HASH, genesis_hash))
                database._migrate(schema, 0)
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def open(
        cls,
        path: Path,
        schema: Schema,
        genesis_hash: Hash32 | None = None,
        *,
        read_only: bool = False,
        at_rest: bool = False,
    ) -> Database:
        """Open an existing file, migrating an older schema.

        ``at_rest`` says that no process has it open nor will: a reader then adds no file beside it.
        Raises HomeError, and has changed nothing, for a file that is missing, half made, damaged, of another kind,
        of a newer schema, or of another world than ``genesis_hash`` (None: any world).
        """
        _check_length(path, _check_magic(path))
        place = reading_place(path, at_rest=at_rest) if read_only else Place(path, "mode=rw")
        database = cls(path, _connect(place), read_only=read_only)
        database._place = place
        try:
            version = database._identify(schema, genesis_hash)
            if path.stat().st_size <= QUICK_CHECK_BYTES_MAX:
                database.check()
            database._tune()
            if version < schema.version:
                if read_only:
                    raise HomeError(
                        f"{path} has the older schema {version}; start the node once to bring it up to date"
                    )
                with database.transaction():
                    database._migrate(schema, version)
        except BaseException:
            database.close()
            raise
        return database

    @property
    def genesis_hash(self) -> Hash32:
        """The world this file was made for."""
        rows = self.query("SELECT value FROM meta WHERE key = ?", (_GENESIS_HASH,))
        if len(rows) != 1 or not isinstance(rows[0][0], bytes) or len(rows[0][0]) != 32:
            raise DatabaseDamaged(f"{self.path} is half made: it does not name its world; {_RESTORE}")
        return Hash32(rows[0][0])

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of a SELECT; the statement bounds them."""
        try:
            rows = self._connection.execute(sql, parameters).fetchall()
        except _FAILURES as error:
            raise self._explained(error, Doing.READ) from error
        if self.faults.are_there:  # looked at for every query: a call would cost a fifth of a small one
            self.faults.worked(_PLACE, Doing.READ)
        return rows

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement, inside the open transaction if there is one; returns the rows changed."""
        self._check_transaction()
        try:
            return self._connection.execute(sql, parameters).rowcount
        except _FAILURES as error:
            raise self._explained(error, Doing.WRITE) from error

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> int:
        """Run one statement for every row of parameters; returns the rows changed in all."""
        self._check_transaction()
        try:
            return self._connection.executemany(sql, rows).rowcount
        except _FAILURES as error:
            raise self._explained(error, Doing.WRITE) from error

    def _check_transaction(self) -> None:
        """After a refusal of the disk SQLite may have undone everything: what follows must not be kept by itself."""
        if self._depth and not self._connection.in_transaction:
            raise self.faults.noted(_PLACE, lost_transaction(self.path))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when the block ends; an exception undoes it.

        Nested, the inner one is a savepoint: it can fail alone, and becomes durable with the outermost.
        """
        if self._turns is None:
            raise LocalError(f"a write to {self.path}, which is open for reading only")
        name = f"nested_{self._depth}"
        if self._depth:
            self.execute(f"SAVEPOINT {name}")
        else:
            with self._turns.turn():
                self.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            self._undo(name)
            raise
        try:
            self._check_transaction()
            self.execute(f"RELEASE {name}" if self._depth > 1 else "COMMIT")
        except HomeError:
            self._depth -= 1
            self._undo(name)  # such as a full disk: the transaction is still open and must not leak into the next
            raise
        self._depth -= 1
        if not self._depth:
            self.faults.worked(_PLACE, Doing.WRITE)

    @property
    def in_transaction(self) -> bool:
        """Whether a caller has one open."""
        return self._depth > 0

    def check(self) -> None:
        """Walk the whole file for damage; raises HomeError with what SQLite found."""
        found = [row[0] for row in self.query("PRAGMA quick_check(3)")]
        if found != ["ok"]:
            raise DatabaseDamaged(f"{self.path} is damaged ({'; '.join(map(str, found))}); {_RESTORE}")

    def fold(self) -> None:
        """Fold the write-ahead log into the file, both fsynced: all that can be read is durable. Raises HomeError."""
        busy = self.query("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]
        if busy:
            raise HomeError(f"{self.path} is in use; {_BUSY}")

    def close(self) -> None:
        """Close; further use raises LocalError. The last closer folds the write-ahead log into the file."""
        self._connection.close()
        self._place.close()
        if self._turns is not None:
            self._turns.close()

    def _undo(self, name: str) -> None:
        if not self._connection.in_transaction:
            return  # SQLite itself rolls back after some errors, and then all of it
        if self._depth:
            self.execute(f"ROLLBACK TO {name}")
            self.execute(f"RELEASE {name}")
        else:
            self.execute("ROLLBACK")

    def _identify(self, schema: Schema, genesis_hash: Hash32 | None) -> int:
        """The file's schema version, once kind, version and world are the expected ones."""
        kind = self.query("PRAGMA application_id")[0][0]
        version = self.query("PRAGMA user_version")[0][0]
        if kind == 0 and version == 0:
            raise DatabaseDamaged(f"{self.path} is half made: it has no schema; {_RESTORE}")
        if kind != schema.application_id:
            raise HomeError(f"{self.path} is a database of something else; nothing was changed")
        if version > schema.version:
            raise HomeError(
                f"{self.path} has schema {version}, this program knows up to {schema.version}; use a newer agent-world"
            )
        stored = self.genesis_hash
        if genesis_hash is not None and stored != genesis_hash:
            raise HomeError(
                f"{self.path} belongs to another world (genesis {stored.hex()[:16]}…, asked for "
                f"{genesis_hash.hex()[:16]}…); use that world's genesis.toml or another home"
            )
        return int(version)

    def _tune(self) -> None:
        self.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        self.execute("PRAGMA cell_size_check = ON")
        if self.read_only:
            self.execute("PRAGMA query_only = ON")
            return
        self.query("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = FULL")  # a commit that was acknowledged survives power loss
        self.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT_MAX}")

    def _migrate(self, schema: Schema, version: int) -> None:
        for statements in schema.migrations[version:]:
            for statement in statements:
                self.execute(statement)
        self.execute(f"PRAGMA user_version = {schema.version}")

    def _explained(self, error: Exception, doing: Doing) -> HomeError | LocalError:
        """One of ``_FAILURES`` as our own error."""
        if isinstance(error, UnicodeDecodeError):
            # The sqlite3 module meets damaged text in a row, or in its own error message about damage.
            return DatabaseDamaged(f"{self.path} is damaged: text that is not UTF-8; {_RESTORE}")
        if isinstance(error, _OUR_FAULTS):
            return LocalError(f"{self.path.name}: {error}")
        fault = sqlite_fault(self.path, error, doing)
        if fault is not None:
            return self.faults.noted(_PLACE, fault)
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _IN_USE:
            return HomeError(f"{self.path}: {error}; {_BUSY}")
        return DatabaseDamaged(f"{self.path}: {error}; {_RESTORE}")


def _connect(place: Place) -> sqlite3.Connection:
    """Without ``isolation_level`` Python starts no transactions of its own; modes ro and rw never create a file."""
    path = place.path
    try:
        return sqlite3.connect(f"{path.absolute().as_uri()}?{place.mode}", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        place.close()
        raise HomeError(f"{path} cannot be opened: {error}; check that you may read it and its directory") from None


def _check_magic(path: Path) -> bytes:
    """The header; looked at before SQLite does, which takes an empty file for a new database."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        raise DatabaseDamaged(f"{path} is missing: the home is half made; {_RESTORE}") from None
    except OSError as error:
        raise not_readable(f"{path} cannot be read", error) from None
    if not start:
        raise DatabaseDamaged(f"{path} is half made: it is empty; {_RESTORE}")
    if start[: len(_MAGIC)] != _MAGIC or len(start) < _HEADER_BYTES:
        raise DatabaseDamaged(f"{path} is damaged or not a database; nothing was changed; {_RESTORE}")
    return start


def _check_length(path: Path, header: bytes) -> None:
    """SQLite reads what is cut off the last page as zeros, which can look like sound rows: so refuse it here.

    While there is a write-ahead log, the file may end in a page that a crash tore; the log has that page whole.
    """
    if has_wal(path):
        return
    page_bytes = int.from_bytes(header[16:18], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes
    pages = int.from_bytes(header[28:32], "big")
    size = path.stat().st_size
    if page_bytes and (size % page_bytes or size < pages * page_bytes):
        raise DatabaseDamaged(
            f"{path} is cut short: {size} bytes of {pages * page_bytes}; nothing was changed; {_RESTORE}"
        )


_OUR_FAULTS: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, OverflowError)
_FAILURES: Final = (sqlite3.Error, OverflowError, UnicodeDecodeError)
"""All that the sqlite3 module raises for a statement."""
_BUSY: Final = "another program has it open; close that one and try again"
_IN_USE: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
"""SQLite's primary codes; any other than these and those of the disk says that the file is broken."""
