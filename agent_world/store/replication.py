"""The replication log of one home: guard, records and index move as one, and what is to be published is kept in order.

The only module that moves records into the file index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Final

import attrs

from agent_world.distfs.replication import (
    FileEntry,
    OpenedRecord,
    Place,
    SingleWriterReplicationGuard,
    check_path,
    commit_height,
    validate_and_advance,
)
from agent_world.errors import DecodeError, ErrorCode, HomeError, LocalError, Refused
from agent_world.store.blobs import LocalCasStore
from agent_world.store.database import Row
from agent_world.store.durable import FaultHook, no_fault
from agent_world.store.file_rows import COLUMNS, file_at, file_of, put_file, record_of, remove_file
from agent_world.store.home import Home
from agent_world.wire.cid import Cid
from agent_world.wire.file_index import FileMetadata
from agent_world.wire.ids import U64, TimeMs, ValidatorId, WorldId
from agent_world.wire.limits import I64_MAX, RECORDS_MAX

_PAGE_ROWS: Final = 256
SAMPLE_RECORDS_MAX: Final = 1_024
"""Records looked through for one that the index still follows; about 10 ms."""
ACCEPT_STEPS: Final = (
    "accept_begun",
    "content_inserted",
    "record_inserted",
    "index_moved",
    "place_moved",
    "accept_committed",
)
"""What the fault hook is called with while a record is accepted, in order."""
NOTE_STEPS: Final = ("note_begun", "noted", "note_committed")
"""The same while something is put into the outbox."""


@attrs.frozen(slots=True)
class Outgoing:
    """An entry of the outbox."""

    position: int
    entry: FileEntry


class ReplicationStore:
    """Of one world and home; satisfies ``distfs.replication.ReplicaStore``."""

    def __init__(
        self,
        home: Home,
        blobs: LocalCasStore,
        world_id: WorldId,
        *,
        outbox_max: int = 4_096,
        fault: FaultHook = no_fault,
    ) -> None:
        self._database = home.database
        self._blobs = blobs
        self._world_id = world_id
        self._outbox_max = outbox_max
        self._fault = fault
        self.voided = 0
        """Records dropped since the start because a later writer had never got them."""
        self.overtaken = 0
        """Entries of the outbox that another writer's record took the place of."""

    # The log.

    def guard(self) -> SingleWriterReplicationGuard:
        """As of the last accepted record."""
        rows = self._database.query(
            "SELECT writer_id, writer_epoch, last_sequence FROM replication_guard WHERE world_id = ?",
            (self._world_id,),
        )
        if not rows:
            return SingleWriterReplicationGuard(world_id=self._world_id)
        writer_id, epoch, sequence = rows[0]
        return SingleWriterReplicationGuard(
            world_id=self._world_id,
            writer_id=ValidatorId(writer_id),
            writer_epoch=U64(epoch),
            last_sequence=U64(sequence),
        )

    def accept(
        self,
        opened: OpenedRecord,
        guard: SingleWriterReplicationGuard,
        data: bytes,
        *,
        published: int | None = None,
    ) -> None:
        """Store content, record, index row and guard in one transaction, and take it out of the outbox.

        ``guard`` is what ``validate_and_advance`` gave; ``published`` is the position in the outbox of what this node
        writes itself, None for another writer's record, which takes the place of what waits here for the same path.
        Raises Refused (W9, W10), StoreFull, HomeError, LocalError; nothing has changed then.
        """
        said = opened.record
        is_commit = commit_height(said.path) is not None  # blocks are the chain's, and count against no quota
        content = {} if said.content is None else {said.content.digest: data}
        prepared = self._blobs.prepare(content, kept=is_commit)
        with self._database.transaction():
            self._fault("accept_begun")
            if validate_and_advance(self.guard(), said) != guard:
                raise LocalError(f"record {opened.place} does not lead to guard {guard.place}")
            self._void((said.prev_epoch, said.prev_sequence))
            if self._blobs.insert(prepared, kept=is_commit):
                raise HomeError("blobs were removed while a record was stored: another program writes to this home")
            self._fault("content_inserted")
            self._database.execute(
                "INSERT INTO replication_records (writer_epoch, sequence, path, commit_height, record)"
                " VALUES (?, ?, ?, ?, ?)",
                (said.writer_epoch, said.sequence, said.path, commit_height(said.path), opened.data),
            )
            self._fault("record_inserted")
            if published is None or not self._waits_after(said.path, published):
                self._index(opened.entry)
            self._fault("index_moved")
            self._database.execute(
                "INSERT OR REPLACE INTO replication_guard VALUES (?, ?, ?, ?)",
                (self._world_id, guard.writer_id, guard.writer_epoch, guard.last_sequence),
            )
            if published is None:
                self.overtaken += self._database.execute("DELETE FROM replication_outbox WHERE path = ?", (said.path,))
            else:
                # With what was written at the path before it, should that have had to wait.
                self._database.execute(
                    "DELETE FROM replication_outbox WHERE path = ? AND position <= ?", (said.path, published)
                )
            self._fault("place_moved")
        self._fault("accept_committed")

    def together(self) -> AbstractContextManager[None]:
        """Records accepted inside become durable at once, at its end; each still moves as one or not at all."""
        return self._database.transaction()

    def _waits_after(self, path: str, position: int) -> bool:
        """Whether the index has gone on since this entry of the outbox: what it is now is published later."""
        sql = "SELECT 1 FROM replication_outbox WHERE path = ? AND position > ?"
        return bool(self._database.query(sql, (path, position)))

    def _index(self, entry: FileEntry) -> None:
        if entry.content is None:
            remove_file(self._database, entry.path)
            return
        size_bytes = U64(_fit(entry.size_bytes))
        put_file(
            self._database,
            FileMetadata(
                path=entry.path, content=entry.content, size_bytes=size_bytes, updated_at_ms=entry.updated_at_ms
            ),
        )

    def _void(self, before: Place) -> None:
        """Drop what stands after ``before``: whoever writes now had never got it. The index is as it was then."""
        rows = self._database.query(
            "SELECT position, path FROM replication_records WHERE (writer_epoch, sequence) > (?, ?)", before
        )
        for position, path in rows:
            self._database.execute("DELETE FROM replication_records WHERE position = ?", (position,))
            last = self._database.query(
                "SELECT record FROM replication_records WHERE path = ? ORDER BY position DESC LIMIT 1", (path,)
            )
            remove_file(self._database, path)
            for (data,) in last:
                self._index(_opened(data).entry)
        self.voided += len(rows)

    def records_after(self, place: Place, count_max: int = RECORDS_MAX) -> tuple[bytes, ...]:
        """Signed records after a place, in order."""
        rows = self._database.query(
            "SELECT record FROM replication_records WHERE (writer_epoch, sequence) > (?, ?)"
            " ORDER BY writer_epoch, sequence LIMIT ?",
            (_fit(place[0]), _fit(place[1]), count_max),
        )
        return tuple(row[0] for row in rows)

    def record_at(self, place: Place) -> bytes | None:
        """The signed record at a place; None if there is none here."""
        rows = self._database.query(
            "SELECT record FROM replication_records WHERE writer_epoch = ? AND sequence = ?",
            (_fit(place[0]), _fit(place[1])),
        )
        return rows[0][0] if rows else None

    def commit_record(self, height: int) -> bytes | None:
        """The newest signed record of a committed height; None if there is none here."""
        rows = self._database.query(
            "SELECT record FROM replication_records WHERE commit_height = ? ORDER BY position DESC LIMIT 1",
            (_fit(height),),
        )
        return rows[0][0] if rows else None

    def covered_height(self) -> int:
        """The highest height with a record; 0 without any."""
        rows = self._database.query(
            "SELECT max(commit_height) FROM replication_records WHERE commit_height IS NOT NULL"
        )
        return rows[0][0] or 0

    def bounds(self) -> tuple[int, int]:
        """First and last position of the log; (1, 0) while it is empty."""
        rows = self._database.query(
            "SELECT (SELECT min(position) FROM replication_records), (SELECT max(position) FROM replication_records)"
        )
        first, last = rows[0]
        return (1, 0) if first is None else (first, last)

    def sample(self, position: int) -> FileEntry | None:
        """What the record at a position, or the next one after it, names, if the index still has that there.

        What was written over or removed since is kept by nobody. None if there is none within SAMPLE_RECORDS_MAX.
        """
        rows = self._database.query(
            "SELECT record FROM replication_records WHERE position >= ? ORDER BY position LIMIT ?",
            (position, SAMPLE_RECORDS_MAX),
        )
        for (data,) in rows:
            entry = _opened(data).entry
            there = file_at(self._database, entry.path)
            if there is not None and there.content == entry.content:
                return entry
        return None

    def indexed(self) -> Iterator[FileMetadata]:
        """Every file of the index, ascending by path; read in pages."""
        after = ""
        while rows := self._database.query(
            f"SELECT {COLUMNS} FROM file_index WHERE path > ? ORDER BY path LIMIT ?", (after, _PAGE_ROWS)
        ):
            yield from map(file_of, rows)
            after = rows[-1][0]

    # The outbox.

    def note(self, entries: Iterable[FileEntry]) -> int:
        """Put files into the outbox, durably; how many had room. What is left out must be offered again."""
        taken = 0
        with self._database.transaction():
            self._fault("note_begun")
            room = self._outbox_max - self.outbox_size()
            for entry in entries:
                if taken >= room:
                    break
                self._database.execute(
                    "INSERT OR IGNORE INTO replication_outbox (path, commit_height, cid, size_bytes, updated_at_ms)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (
                        entry.path, commit_height(entry.path), b"" if entry.content is None else
                        entry.content.to_bytes(), _fit(entry.size_bytes), entry.updated_at_ms,
                    ),
                )  # fmt: skip
                taken += 1
            self._fault("noted")
        self._fault("note_committed")
        return taken

    def queue_file(self, entry: FileEntry) -> None:
        """Put a file of the holder's, or its removal, into the outbox, inside the transaction that changes the index.

        Raises Refused, ERR_BUSY, while the outbox is full; RemoteError (W4) for a path that is none.
        """
        check_path(entry.path)
        if commit_height(entry.path) is not None:
            raise Refused(ErrorCode.BAD_REQUEST, f"{entry.path} is written by commits only")
        if not self.note((entry,)):
            raise Refused(ErrorCode.BUSY, f"{self._outbox_max} files wait to be published; try again later")

    def outgoing(self, limit: int) -> tuple[Outgoing, ...]:
        """The first entries of the outbox."""
        rows = self._database.query(
            "SELECT position, path, cid, size_bytes, updated_at_ms FROM replication_outbox ORDER BY position LIMIT ?",
            (limit,),
        )
        return tuple(map(_outgoing, rows))

    def waiting(self) -> Iterator[FileEntry]:
        """What waits to be published, in order; read in pages."""
        after = 0
        while rows := self._database.query(
            "SELECT position, path, cid, size_bytes, updated_at_ms FROM replication_outbox WHERE position > ?"
            " ORDER BY position LIMIT ?",
            (after, _PAGE_ROWS),
        ):
            waiting = tuple(map(_outgoing, rows))
            yield from (item.entry for item in waiting)
            after = waiting[-1].position

    def outbox_size(self) -> int:
        """Entries that wait."""
        return int(self._database.query("SELECT count(*) FROM replication_outbox")[0][0])

    def noted_height(self) -> int:
        """The highest height that is published or waits to be; 0 without any."""
        rows = self._database.query("SELECT max(commit_height) FROM replication_outbox")
        return max(rows[0][0] or 0, self.covered_height())


def _fit(number: int) -> int:
    """SQLite's integers end at 2^63 - 1."""
    return min(number, I64_MAX)


def _opened(data: bytes) -> OpenedRecord:
    """Raises HomeError for a damaged row."""
    signed, said = record_of(data)
    return OpenedRecord(record=said, key=signed.key, data=data)


def _outgoing(row: Row) -> Outgoing:
    position, path, cid, size_bytes, updated_at_ms = row
    try:
        content = Cid.from_bytes(cid) if cid else None
    except (DecodeError, TypeError) as error:
        raise HomeError(f"the replication outbox is damaged: {error}; restore the home from a copy") from None
    entry = FileEntry(path=path, content=content, size_bytes=U64(size_bytes), updated_at_ms=TimeMs(updated_at_ms))
    return Outgoing(position, entry)
