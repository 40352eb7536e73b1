"""Files by their paths: a table over content that is never overwritten, changed by compare-and-set (F1 to F3).

A change is one transaction: the condition, the blobs and the row. So it is atomic across threads with a database each,
and across processes. What another process has removed since a blob was found here is stored again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, TypeAlias

from agent_world.distfs.content_stream import ContentBuilder
from agent_world.distfs.paths import RESERVED, normalise, normalise_own
from agent_world.errors import ErrorCode, FileConflict, FileMissing, Refused
from agent_world.store.blobs import LocalCasStore
from agent_world.store.content_range import content_parts
from agent_world.store.durable import FaultHook, no_fault
from agent_world.store.file_rows import COLUMNS, file_at, file_of, is_logged, put_file, remove_file
from agent_world.store.home import Home
from agent_world.store.staged_blobs import PreparedBlobs
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.file_index import FileMetadata
from agent_world.wire.ids import U64, TimeMs
from agent_world.wire.limits import MIB

PAGE_ROWS: Final = 512
BATCH_BYTES: Final = 8 * MIB
"""Of a large file, stored in one go."""


class Expect(Enum):
    """Conditions that are no hash."""

    NOTHING_THERE = "nothing there"
    """The path must not exist."""


Expected: TypeAlias = "ContentHash | Expect | None"
"""What must be at a path before it is changed; None: whatever it is."""


class FileIndex:
    """The index of one home. Paths are normalised; every method raises UsageError for what is none."""

    def __init__(self, home: Home, blobs: LocalCasStore, *, fault: FaultHook = no_fault) -> None:
        self._database = home.database
        self._blobs = blobs
        self._fault = fault
        self.written: Callable[[FileMetadata], None] = lambda _file: None
        """Told of every file that is put there, inside its transaction: what it raises undoes the change."""
        self.removed: Callable[[FileMetadata, TimeMs], None] = lambda _file, _at_ms: None
        """Told in the same way of every file that is taken away, and when."""
        self.check_writer: Callable[[str], None] = self._refuse_logged
        """Raises Refused for a path that only the writer of the record log may change; asked before each change."""

    def _refuse_logged(self, path: str) -> None:
        if is_logged(self._database, path):
            raise not_the_writer(path, "only the node of its writer changes it")

    def write_file(self, path: str, data: bytes) -> FileMetadata:
        """Put a file there, whatever was; raises StoreFull, HomeError."""
        return self.write_file_if_match(path, None, data)

    def write_file_if_match(self, path: str, expected: Expected, data: bytes) -> FileMetadata:
        """Put a file there if ``expected`` is there now; else nothing is written, no blob either.

        Raises FileConflict with the hash that is there, Refused for a path that is the log's, StoreFull, HomeError.
        """
        path = normalise_own(path)
        self.check_writer(path)
        self._require(path, expected)
        cid, blobs = _blobs_of(data)
        with self._blobs.hold():
            for batch in _batches(blobs):
                self._blobs.put_many(batch)
            small = {cid.digest: blobs[-1]}
            while True:
                prepared = self._blobs.prepare(small)
                found = self._set(path, expected, cid, len(data), prepared)
                if found is not None:
                    return found

    def check(self, path: str, expected: Expected) -> None:
        """Raises FileConflict if ``expected`` is not there now, and Refused, before much is stored for a write."""
        path = normalise_own(path)
        self.check_writer(path)
        self._require(path, expected)

    def put_content(self, path: str, expected: Expected, cid: Cid, size_bytes: int) -> FileMetadata:
        """Put a file there whose content is stored already, under a hold or reached by a root.

        Raises FileConflict, and FileMissing if its blob, or the manifest, is not here.
        """
        path = normalise_own(path)
        found = self._set(path, expected, cid, size_bytes, PreparedBlobs((), (cid.digest,)))
        if found is None:
            raise FileMissing(f"{cid}, which is to be {path}, is not stored here")
        return found

    def copy(self, source: str, path: str, expected: Expected = None) -> FileMetadata:
        """Put what is at ``source`` also there; no content moves. Raises FileMissing, FileConflict."""
        with self._database.transaction():
            found = self.need(source)
            return self.put_content(path, expected, found.content, found.size_bytes)

    def _set(
        self, path: str, expected: Expected, cid: Cid, size_bytes: int, prepared: PreparedBlobs
    ) -> FileMetadata | None:
        """The change in its transaction; None if a blob has gone since it was prepared, and nothing was changed."""
        try:
            with self._database.transaction():
                self.check_writer(path)
                before = self._require(path, expected)
                self._fault("checked")
                if self._blobs.insert(prepared):
                    raise _Gone
                self._fault("blobs_inserted")
                now_ms = self._blobs.wall_ms()
                updated_at_ms = TimeMs(now_ms if before is None else max(now_ms, before.updated_at_ms))
                file = FileMetadata(path=path, content=cid, size_bytes=U64(size_bytes), updated_at_ms=updated_at_ms)
                put_file(self._database, file)
                self._fault("row_written")
                self.written(file)
        except _Gone:
            return None
        self._fault("committed")
        return file

    def delete_file(self, path: str) -> bool:
        """Remove the path; its content goes with a later collection. Whether it was there."""
        return self.delete_file_if_match(path, None)

    def delete_file_if_match(self, path: str, expected: ContentHash | None) -> bool:
        """Remove the path if ``expected`` is there; raises FileConflict, also if nothing is there, and Refused.

        Without a condition as ``delete_file``.
        """
        path = normalise_own(path)
        with self._database.transaction():
            self.check_writer(path)
            before = self._require(path, expected)
            self._fault("checked")
            if before is None:
                return False
            self._take_away(before)
            self._fault("row_removed")
        self._fault("removal_committed")
        return True

    def _take_away(self, before: FileMetadata) -> None:
        remove_file(self._database, before.path)
        self.removed(before, TimeMs(max(self._blobs.wall_ms(), before.updated_at_ms)))

    def stat_file(self, path: str) -> FileMetadata | None:
        """What is there; None if nothing is."""
        return file_at(self._database, normalise(path))

    def need(self, path: str) -> FileMetadata:
        """What is there; raises FileMissing."""
        found = self.stat_file(path)
        if found is None:
            raise FileMissing(f"there is no file {normalise(path)} in the index")
        return found

    def read_file(self, path: str) -> bytes:
        """All its bytes, verified; raises FileMissing, BlobNotFound, BlobHashMismatch, DecodeError."""
        return b"".join(self.read_parts(path))

    def read_parts(self, path: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes ``start`` to ``end`` in parts of at most a blob; raises as ``read_file``."""
        yield from content_parts(self._blobs.get, self.need(path).content, start, end)

    def list_files(self, prefix: str = "", *, after: str = "") -> Iterator[FileMetadata]:
        """Files whose paths begin with ``prefix``, above ``after``, ascending by their bytes.

        Read in pages, so they may change meanwhile. The prefix is text, not a folder: "a" finds "ab". What belongs to
        the record log is left out unless the prefix asks for it.
        """
        own = "" if prefix.startswith(RESERVED) else _NOT_RESERVED
        while True:
            # SQLite compares TEXT by its UTF-8 bytes, as the order of a manifest is; no text has the byte FF.
            rows = self._database.query(
                f"SELECT {COLUMNS} FROM file_index WHERE path >= ? AND path > ? AND path < CAST(? AS TEXT) {own}"
                " ORDER BY path LIMIT ?",
                (prefix, after, prefix.encode() + b"\xff", PAGE_ROWS),
            )
            yield from map(file_of, rows)
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1][0]

    def count(self) -> int:
        """Files in all, without those of the record log."""
        return int(self._database.query(f"SELECT count(*) FROM file_index WHERE 1 {_NOT_RESERVED}")[0][0])

    def is_logged(self, path: str) -> bool:
        """Whether the record log has a file there, or will; else what is there is this node's alone."""
        return is_logged(self._database, normalise(path))

    def replace(self, files: Callable[[], Iterator[FileMetadata]]) -> int:
        """Let the index be exactly these files, in one transaction; their content must be reached or held.

        What belongs to the record log stays. Raises Refused if a path changes that only the log's writer may change.
        """
        count = 0
        with self._database.transaction():
            self._database.execute("CREATE TEMP TABLE coming (path TEXT PRIMARY KEY) WITHOUT ROWID")
            for file in files():
                self._database.execute("INSERT INTO temp.coming VALUES (?)", (file.path,))
                self._put_other(file)
                count += 1
            gone = f"path NOT IN (SELECT path FROM temp.coming) {_NOT_RESERVED}"
            while rows := self._database.query(f"SELECT {COLUMNS} FROM file_index WHERE {gone} LIMIT ?", (PAGE_ROWS,)):
                for before in map(file_of, rows):
                    self.check_writer(before.path)
                    self._take_away(before)
            self._database.execute("DROP TABLE temp.coming")
        return count

    def _put_other(self, file: FileMetadata) -> None:
        before = file_at(self._database, file.path)
        if before is not None and before.content == file.content:
            return
        self.check_writer(file.path)
        put_file(self._database, file)
        self.written(file)

    def _require(self, path: str, expected: Expected) -> FileMetadata | None:
        before = self.stat_file(path)
        current = None if before is None else before.content_hash
        if expected is Expect.NOTHING_THERE and current is not None:
            raise FileConflict(path, current, "there is a file already")
        if isinstance(expected, bytes) and expected != current:
            raise FileConflict(path, current, "another content is there" if current else "nothing is there")
        return before


def not_the_writer(path: str, who: str) -> Refused:
    """What is said to a change of a path that the record log holds, by anybody but its writer."""
    return Refused(
        ErrorCode.UNAUTHORIZED,
        f"{path} is in the world's record log: {who}; take the lease (agent-world lease acquire), or write at another"
        " path, where the file stays this node's own",
        rule="W9",
    )


class _Gone(Exception):
    """Blobs were removed by another process; the transaction is undone."""


def _blobs_of(data: bytes) -> tuple[Cid, list[bytes]]:
    """The file's CID, and what is stored of it; the last one is what the CID names."""
    stream = ContentBuilder()
    blobs = [*stream.add(data), *stream.finish()]
    return blobs[-1][0], [blob for _, blob in blobs]


def _batches(blobs: list[bytes]) -> Iterator[list[bytes]]:
    """All but the last, a few MiB at a time."""
    batch: list[bytes] = []
    for blob in blobs[:-1]:
        batch.append(blob)
        if sum(map(len, batch)) >= BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


_NOT_RESERVED: Final = "AND NOT (path >= 'consensus/' AND path < 'consensus0')"
"""``0`` comes after the slash."""
