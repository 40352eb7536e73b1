"""A disk that refuses: every operation on one folder, files and SQLite alike, can be made to fail as a system would.

Root may do everything, so lost rights cannot be had from the file system itself in a test; and no file system can be
filled up to exactly the next write.
"""

from __future__ import annotations

import errno
import io
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self
from unittest.mock import patch

from agent_world.store import database
from agent_world.store.database import Database
from agent_world.store.reading_place import Place

WRITES: Final = ("INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT", "RELEASE", "SAVEPOINT")
"""Statements that write; undoing is never refused."""
_SQLITE: Final = {
    errno.ENOSPC: (sqlite3.SQLITE_FULL, "database or disk is full"),
    errno.EROFS: (sqlite3.SQLITE_READONLY, "attempt to write a readonly database"),
    errno.EACCES: (sqlite3.SQLITE_CANTOPEN, "unable to open database file"),
    errno.EIO: (sqlite3.SQLITE_IOERR_WRITE, "disk I/O error"),
}
"""What SQLite makes of an error of the system."""
_UNDOES: Final = frozenset({errno.ENOSPC, errno.EIO})
"""After these SQLite may undo the whole transaction by itself; here it always does."""


class FaultyDisk:
    """Of everything below one folder. Works while ``active`` is entered."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._number = 0
        self._lasting = False
        self._left: int | None = None
        self._reads = self._rows_too = False
        self.refused = 0
        """Operations refused since ``break_after``."""

    def break_after(self, operations: int, number: int, *, lasting: bool) -> None:
        """Refuse the write after so many, with the system's error ``number``; ``lasting``: and all after it."""
        self._left, self._number, self._lasting, self.refused = operations, number, lasting, 0

    def break_reads(self, number: int, *, rows_too: bool = False) -> None:
        """Refuse to read files, and rows too if told so, until ``mend``."""
        self._reads, self._rows_too, self._number = True, rows_too, number

    def mend(self) -> None:
        """From now on everything works."""
        self._left, self._reads = None, False

    def pause(self) -> int | None:
        """Everything works until ``resume`` of what this returns."""
        armed, self._left = self._left, None
        return armed

    def resume(self, armed: int | None) -> None:
        """As before ``pause``."""
        self._left = armed

    def _check(self, path: object) -> None:
        if self._left is None or not str(path).startswith(self._folder):
            return
        if self._is_refused():
            raise OSError(self._number, os.strerror(self._number), str(path))

    def _is_refused(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        refuses = self._left < 0 and (self._lasting or self._left == -1)
        self.refused += refuses
        return refuses

    def _check_descriptor(self, descriptor: int) -> None:
        self._check(os.readlink(f"/proc/self/fd/{descriptor}"))

    @contextmanager
    def active(self) -> Iterator[FaultyDisk]:
        """Operations of this process go through here."""
        real_open, real_fdopen, real_io, real_read = os.open, os.fdopen, io.open, os.read

        def check_read(path: object) -> None:
            if self._reads and str(path).startswith(self._folder):
                raise OSError(self._number, os.strerror(self._number), str(path))

        def opened(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._check(path)
            return real_open(path, flags, *rest, **more)

        def read(descriptor: int, size: int) -> bytes:
            check_read(os.readlink(f"/proc/self/fd/{descriptor}"))
            return real_read(descriptor, size)

        def with_file(descriptor: int, *rest: Any, **more: Any) -> Any:
            return _File(real_fdopen(descriptor, *rest, **more), lambda: self._check_descriptor(descriptor))

        def with_io(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if mode.startswith("r"):
                check_read(path)
            return real_io(path, mode, *rest, **more)

        with (
            patch("os.open", opened),
            patch("os.read", read),
            patch("os.fdopen", with_file),
            patch("io.open", with_io),
            patch("os.fsync", self._before(os.fsync, descriptor=True)),
            patch("os.replace", self._before(os.replace)),
            patch("os.unlink", self._before(os.unlink)),
            patch("os.mkdir", self._before(os.mkdir)),
            patch("os.link", self._before(os.link)),
            patch("os.write", self._before(os.write, descriptor=True)),
            patch("os.fdatasync", self._before(os.fdatasync, descriptor=True)),
            patch.object(database, "_connect", self._connecting(database._connect)),
        ):
            yield self

    def _before(self, real: Callable[..., Any], *, descriptor: bool = False) -> Callable[..., Any]:
        def checked(first: Any, *rest: Any, **more: Any) -> Any:
            if descriptor:
                self._check_descriptor(first)
            else:
                self._check(first)
            return real(first, *rest, **more)

        return checked

    def _connecting(self, real: Callable[[Place], sqlite3.Connection]) -> Callable[[Place], Any]:
        def connect(place: Place) -> Any:
            connection = real(place)
            return _Connection(connection, self) if str(place.path).startswith(self._folder) else connection

        return connect

    def wrap(self, opened: Database) -> None:
        """Statements of a database that was opened before go through here too."""
        opened._connection = _Connection(opened._connection, self)  # type: ignore[assignment]

    def check_statement(self, sql: str, connection: sqlite3.Connection) -> None:
        """Raise what SQLite raises if this one is refused."""
        if self._reads and self._rows_too and sql.lstrip().upper().startswith("SELECT"):
            raise _sqlite_error(sqlite3.SQLITE_IOERR_READ, "disk I/O error")
        if not sql.lstrip().upper().startswith(WRITES) or not self._is_refused():
            return
        if self._number in _UNDOES and connection.in_transaction:
            connection.execute("ROLLBACK")
        raise _sqlite_error(*_SQLITE[self._number])


def _sqlite_error(code: int, message: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error


class _File:
    """A file whose writes can be refused."""

    def __init__(self, file: Any, check: Callable[[], None]) -> None:
        self._file = file
        self._check = check

    def write(self, data: bytes) -> int:
        self._check()
        return int(self._file.write(data))

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *about: object) -> None:
        self._file.__exit__(*about)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Connection:
    """A connection whose statements can be refused."""

    def __init__(self, real: sqlite3.Connection, disk: FaultyDisk) -> None:
        self._real = real
        self._disk = disk

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        self._disk.check_statement(sql, self._real)
        return self._real.execute(sql, parameters)

    def executemany(self, sql: str, rows: Any) -> Any:
        self._disk.check_statement(sql, self._real)
        return self._real.executemany(sql, rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
