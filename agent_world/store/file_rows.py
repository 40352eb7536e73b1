"""Rows of the file index, for whoever changes a path, and what the record log says of one."""

from __future__ import annotations

from typing import Final

from agent_world.errors import DecodeError, HomeError
from agent_world.store.database import Database, Row
from agent_world.wire import record
from agent_world.wire.cid import Cid
from agent_world.wire.file_index import FileMetadata
from agent_world.wire.limits import REPLICATION_BYTES_MAX
from agent_world.wire.replication import FileReplicationRecord
from agent_world.wire.signed import Signed

COLUMNS: Final = "path, cid, size_bytes, updated_at_ms"
"""In the order in which ``file_of`` takes them."""


def file_of(row: Row) -> FileMetadata:
    """A row of ``COLUMNS``; raises HomeError for a damaged one."""
    path, cid, size_bytes, updated_at_ms = row
    try:
        return FileMetadata(path=path, content=Cid.from_bytes(cid), size_bytes=size_bytes, updated_at_ms=updated_at_ms)
    except (DecodeError, ValueError, TypeError) as error:
        raise HomeError(f"the file index is damaged: {error}; restore the home from a copy") from None


def file_at(database: Database, path: str) -> FileMetadata | None:
    """What is at a path in its normal form; None if nothing is."""
    rows = database.query(f"SELECT {COLUMNS} FROM file_index WHERE path = ?", (path,))
    return file_of(rows[0]) if rows else None


def put_file(database: Database, file: FileMetadata) -> None:
    """Let this be at its path, inside the caller's transaction."""
    database.execute(
        "INSERT INTO file_index VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET"
        " cid = excluded.cid, size_bytes = excluded.size_bytes, updated_at_ms = excluded.updated_at_ms",
        (file.path, file.content.to_bytes(), file.size_bytes, file.updated_at_ms),
    )


def remove_file(database: Database, path: str) -> bool:
    """Let nothing be there, inside the caller's transaction; whether something was."""
    return database.execute("DELETE FROM file_index WHERE path = ?", (path,)) == 1


def is_logged(database: Database, path: str) -> bool:
    """Whether the record log has a file at a path, or waits to get one from here: then only its writer changes it."""
    if database.query("SELECT 1 FROM replication_outbox WHERE path = ? LIMIT 1", (path,)):
        return True
    rows = database.query(
        "SELECT record FROM replication_records WHERE path = ? ORDER BY position DESC LIMIT 1", (path,)
    )
    return bool(rows) and record_of(rows[0][0])[1].content is not None


def record_of(data: bytes) -> tuple[Signed, FileReplicationRecord]:
    """A record of the log, whose signature was verified before it was stored; raises HomeError for a damaged row."""
    try:
        signed = record.from_bytes(Signed, data, size_max=REPLICATION_BYTES_MAX)
        return signed, record.from_bytes(FileReplicationRecord, signed.body, size_max=REPLICATION_BYTES_MAX)
    except DecodeError as error:
        raise HomeError(f"the replication log is damaged: {error}; restore the home from a copy") from None
