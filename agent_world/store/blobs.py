"""Content by its hash: small blobs in SQLite, larger ones as files (D9).

Bytes are verified whenever they are read, so what ``get`` returns hashes to its name whatever happened to the disk
(I-1). A blob that does not is put into quarantine and is then absent, which lets it be fetched again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from agent_world.config import StorageConfig
from agent_world.crypto.hashing import content_hash as hash_of
from agent_world.crypto.hashing import verify_blob
from agent_world.errors import (
    BlobHashMismatch,
    BlobNotFound,
    BlobTooLarge,
    StoreFull,
    StoreNotReadable,
    StoreNotWritable,
    Unavailable,
)
from agent_world.store.blob_files import BlobFiles
from agent_world.store.blob_hold import BlobHold
from agent_world.store.blob_reader import BlobReader
from agent_world.store.blob_store import BlobStat, BlobUsage
from agent_world.store.content_range import read_range
from agent_world.store.database import Row
from agent_world.store.durable import FaultHook, no_fault
from agent_world.store.home import Home
from agent_world.store.staged_blobs import PreparedBlobs, StagedBlobs
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.limits import BLOB_BYTES_MAX

_PAGE_ROWS: Final = 256
"""Rows a query takes at a time: at most 4 MiB of inline data in memory."""

_IS_GARBAGE: Final = "EXISTS (SELECT 1 FROM gc_candidates c WHERE c.content_hash = blobs.content_hash)"


class LocalCasStore:
    """The BlobStore of one home."""

    def __init__(self, home: Home, config: StorageConfig | None = None, *, fault: FaultHook = no_fault) -> None:
        self._database = home.database
        config = config or StorageConfig()
        self._files = BlobFiles(
            home.files.blobs, home.files.quarantine, fault, self._database.faults, bulk_sync=config.bulk_sync
        )
        self._inline_bytes_max = config.inline_bytes_max
        self._quota_bytes = config.quota_bytes
        self.wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
        """The clock of holds; that of whoever collects."""
        self._counters: Counter[str] = Counter()
        self._reader = BlobReader(self._database, self._files, self._counters)
        self._holds: set[BlobHold] = set()
        if home.writable and not home.is_shared:  # what others are writing is not unfinished
            self._counters["unfinished_removed"] = self._files.remove_unfinished()

    def put(self, data: bytes, *, kept: bool = False) -> ContentHash:
        """Store one blob durably, healing a corrupt one of that hash; raises as ``put_many``."""
        return self.put_many((data,), kept=kept)[0]

    def put_many(self, blobs: Iterable[bytes], *, kept: bool = False) -> tuple[ContentHash, ...]:
        """Store all or none with one transaction; hashes in the order given.

        ``kept``: as part of the chain, which is never collected and counts against no quota. Raises BlobTooLarge,
        StoreFull, HomeError.
        """
        hashed = [(hash_of(data), data) for data in blobs]
        left = dict(hashed)
        while left:
            gone = self.commit(self.prepare(left, kept=kept, verified=True), kept=kept)
            left = {key: left[key] for key in gone}
        return tuple(content_hash for content_hash, _ in hashed)

    def prepare(
        self, blobs: Mapping[ContentHash, bytes], *, kept: bool = False, verified: bool = False
    ) -> PreparedBlobs:
        """First half of a put: check every hash and size, and make the files durable.

        A crash before ``insert`` leaves files without a row: they do not exist for any reader, and the next put of
        the same content takes their name. Raises BlobHashMismatch, BlobTooLarge, StoreFull, HomeError.
        """
        staged = self.stage(blobs, kept=kept, verified=verified)
        for wait in staged.write():
            if wait is not None:
                wait()
        return staged.prepared

    def stage(self, blobs: Mapping[ContentHash, bytes], *, kept: bool = False, verified: bool = False) -> StagedBlobs:
        """What of these is not here yet, for ``StagedBlobs.write`` and then ``commit``.

        ``verified``: the caller has made every hash from these very bytes, so they are not hashed once more.
        Raises BlobTooLarge, BlobHashMismatch, and StoreFull unless they are ``kept``.
        """
        for content_hash, data in blobs.items():
            if len(data) > BLOB_BYTES_MAX:
                raise BlobTooLarge(f"{len(data)} bytes are above the blob limit of {BLOB_BYTES_MAX}; use a manifest")
            if not verified:
                verify_blob(data, content_hash)
        unharmed = self._unharmed(blobs)
        missing = {key: data for key, data in blobs.items() if key not in unharmed}
        if missing and not kept:
            self._check_quota(missing)
        return StagedBlobs(missing, unharmed, self._files, self._inline_bytes_max)

    def _check_quota(self, missing: Mapping[ContentHash, bytes]) -> None:
        lost = {row[0] for row in self._database.query("SELECT content_hash FROM kept_lost LIMIT ?", (_PAGE_ROWS,))}
        more_bytes = sum(len(data) for key, data in missing.items() if key not in lost)
        if not more_bytes:
            return
        usage = self.usage()
        used = usage.size_bytes - usage.kept_bytes
        if used + more_bytes > self._quota_bytes:
            self._counters["refused_full"] += 1
            raise StoreFull(
                f"{more_bytes} bytes more would be above the quota: {used} of {self._quota_bytes} bytes are used;"
                " unpin or remove content, or raise storage.quota_bytes"
            )

    def commit(self, prepared: PreparedBlobs, *, kept: bool = False) -> frozenset[ContentHash]:
        """Make prepared blobs exist, in a transaction of their own; returns what has gone, as ``insert``."""
        if not prepared.rows and not kept and not self._has_candidates():
            return frozenset(prepared.present) - self.has_many(prepared.present)
        with self._database.transaction():
            return self.insert(prepared, kept=kept)

    def insert(self, prepared: PreparedBlobs, *, kept: bool = False) -> frozenset[ContentHash]:
        """Second half of a put, inside the caller's transaction: from its commit on the blobs exist.

        Returns those that were removed since they were prepared, by a collection here or in another process: they
        do not exist, and are to be prepared again.
        """
        rows = [(*row, int(kept)) for row in prepared.rows if row[2] is not None or self._files.has(row[0])]
        self._database.execute_many(
            "INSERT INTO blobs (content_hash, size_bytes, data, kept) VALUES (?, ?, ?, ?) ON CONFLICT (content_hash)"
            " DO UPDATE SET size_bytes = excluded.size_bytes, data = excluded.data, kept = max(kept, excluded.kept)",
            rows,
        )
        named = [*(row[0] for row in prepared.rows), *prepared.present]
        if kept and prepared.present:
            self._database.execute_many(
                "UPDATE blobs SET kept = 1 WHERE content_hash = ? AND kept = 0", ((key,) for key in prepared.present)
            )
        if self._has_candidates():
            self._take_off(named)
        gone = frozenset() if len(rows) == len(named) else frozenset(named) - self.has_many(named)
        if self._database.query("SELECT 1 FROM kept_lost LIMIT 1"):
            self._keep_again([(key,) for key in named if key not in gone])
        self._counters["stored"] += len(rows)
        return gone

    def rely_on(self, content_hashes: Iterable[ContentHash]) -> frozenset[ContentHash]:
        """Those that are here, for who finds them under a hold: like those stored under it they stay until it ends.

        For what is garbage until its root comes, ``has_many`` promises nothing. Raises StoreNotWritable.
        """
        found = list(self._rows(f"content_hash, {_IS_GARBAGE}", dict.fromkeys(content_hashes)))
        garbage = [key for key, is_garbage in found if is_garbage]
        here = frozenset(key for key, is_garbage in found if not is_garbage)
        if not garbage:
            return here
        with self._database.transaction():
            self._take_off(garbage)
            return here | self.has_many(garbage)

    def _take_off(self, content_hashes: list[ContentHash]) -> None:
        """These are garbage no more, inside the caller's transaction; those that only seem to be here are not.

        A sweep that is killed leaves rows of which it has removed the files.
        """
        for key, is_garbage in list(self._rows(f"content_hash, data IS NULL AND {_IS_GARBAGE}", content_hashes)):
            if is_garbage and not self._files.has(key):
                self._reader.forget(key)
        keys = ((key,) for key in content_hashes)
        self._database.execute_many("DELETE FROM gc_candidates WHERE content_hash = ?", keys)

    def free_bytes(self) -> int:
        """What the quota still leaves for content that is not the chain's."""
        usage = self.usage()
        return max(0, self._quota_bytes - (usage.size_bytes - usage.kept_bytes))

    def has_lost_kept(self) -> bool:
        """Whether a part of the chain was damaged, and nobody has stored it again yet."""
        return bool(self._database.query("SELECT 1 FROM kept_lost LIMIT 1"))

    def _has_candidates(self) -> bool:
        return bool(self._database.query("SELECT 1 FROM gc_candidates LIMIT 1"))

    def _keep_again(self, keys: list[tuple[ContentHash]]) -> None:
        """What was the chain's before it was damaged is so again."""
        self._database.execute_many(
            "UPDATE blobs SET kept = 1 WHERE content_hash = ? AND content_hash IN (SELECT content_hash FROM kept_lost)",
            keys,
        )
        self._database.execute_many("DELETE FROM kept_lost WHERE content_hash = ?", keys)

    def hold(self) -> BlobHold:
        """A hold on whatever is stored or found here from its beginning on; for imports whose root comes last."""
        return BlobHold(self._database, self.wall_ms, self._holds)

    def renew_holds(self) -> None:
        """Those of this process are open, however long it was stopped; asked before holds end by their time."""
        for hold in self._holds:
            with suppress(Unavailable):  # told to who opened it, at its end
                hold.renew()

    def discard(self, content_hashes: Iterable[ContentHash]) -> None:
        """Let these blobs be absent, inside the caller's transaction, in which ``insert`` writes them anew.

        Their files stay: a rolled back transaction must find them, and ``prepare`` puts a new one over each.
        """
        self._database.execute_many("DELETE FROM blobs WHERE content_hash = ?", [(h,) for h in content_hashes])

    def get(self, content_hash: ContentHash) -> bytes:
        """Verified bytes. Raises BlobNotFound, or BlobHashMismatch once: the blob is then in quarantine."""
        rows = self._database.query("SELECT data FROM blobs WHERE content_hash = ?", (content_hash,))
        if not rows:
            raise BlobNotFound(f"no blob {content_hash.hex()} is stored here")
        return self._reader.read(content_hash, rows[0][0])

    def get_many(self, content_hashes: Iterable[ContentHash]) -> dict[ContentHash, bytes]:
        """Those that are here and verify, in the order asked; corrupt ones go to quarantine and are counted."""
        wanted = dict.fromkeys(content_hashes)
        found: dict[ContentHash, bytes] = {}
        rows: dict[ContentHash, object] = dict(self._rows("content_hash, data", wanted))
        for content_hash in wanted:
            if content_hash not in rows:
                continue
            try:
                found[content_hash] = self._reader.read(content_hash, rows[content_hash])
            except (BlobNotFound, BlobHashMismatch, StoreNotReadable):
                continue  # counted where it was raised
        return found

    def get_range(self, content_hash: ContentHash, start: int, end: int, *, codec: Codec = Codec.DAG_CBOR) -> bytes:
        """Verified bytes ``start`` to ``end`` (exclusive), of the file if its manifest is named, else of the blob.

        With the codec RAW always of the blob itself, whatever it looks like. Raises as ``read_range``, and as ``get``
        for whatever blob of it is not here or damaged; the rest of a file need not be sound, nor here.
        """
        return read_range(self.get, Cid(codec, content_hash), start, end)

    def has(self, content_hash: ContentHash) -> bool:
        """Whether it is stored; its bytes are not looked at."""
        return bool(self._database.query("SELECT 1 FROM blobs WHERE content_hash = ?", (content_hash,)))

    def has_many(self, content_hashes: Iterable[ContentHash]) -> frozenset[ContentHash]:
        """Those that are stored."""
        return frozenset(row[0] for row in self._rows("content_hash", dict.fromkeys(content_hashes)))

    def stat(self, content_hash: ContentHash) -> BlobStat:
        """Size and place; raises BlobNotFound."""
        rows = self._database.query(
            "SELECT size_bytes, data IS NULL FROM blobs WHERE content_hash = ?", (content_hash,)
        )
        if not rows:
            raise BlobNotFound(f"no blob {content_hash.hex()} is stored here")
        return BlobStat(content_hash, rows[0][0], bool(rows[0][1]))

    def usage(self) -> BlobUsage:
        """Number and bytes of all blobs; costs one row."""
        rows = self._database.query("SELECT blobs, size_bytes, kept_bytes FROM blob_usage")
        return BlobUsage(*rows[0])

    def iterate(self, after: ContentHash | None = None) -> Iterator[ContentHash]:
        """All hashes above ``after``, ascending; read in pages, so the store may change meanwhile."""
        last = b"" if after is None else bytes(after)
        while True:
            rows = self._database.query(
                "SELECT content_hash FROM blobs WHERE content_hash > ? ORDER BY content_hash LIMIT ?",
                (last, _PAGE_ROWS),
            )
            for (content_hash,) in rows:
                yield ContentHash(content_hash)
            if len(rows) < _PAGE_ROWS:
                return
            last = rows[-1][0]

    def delete(self, content_hash: ContentHash) -> bool:
        """Remove; whether it was there."""
        return self.delete_many((content_hash,)) == 1

    def delete_many(self, content_hashes: Iterable[ContentHash]) -> int:
        """Remove all in one transaction; returns how many were there. Files go last: a row never lacks its file.

        A file that the disk does not let go is nobody's from then on: a later collection removes it.
        """
        wanted = list(dict.fromkeys(content_hashes))
        with self._database.transaction():
            files, removed = self._delete_rows(wanted)
        for content_hash in files:
            with suppress(StoreNotWritable):  # the fault is noted, and shown while it lasts
                self._delete_orphan(content_hash)
        return removed

    def _delete_orphan(self, content_hash: ContentHash) -> bool:
        """Remove a file that no row names; whether none does, in the transaction in which nobody else can add one.

        Who has put its own in its place and adds the row next finds no file then, and writes it again.
        """
        with self._database.transaction():
            is_orphan = not self._is_file(content_hash)
            if is_orphan:
                self._files.delete(content_hash)
        return is_orphan

    def sweep(self, content_hashes: Iterable[ContentHash]) -> int:
        """Remove all, inside the caller's transaction; returns how many were there.

        The files go before the commit: after it another process may write one of the same content under that name.
        A crash in between leaves rows without files, of blobs that nothing reached; a read finds them out.
        """
        files, removed = self._delete_rows(list(content_hashes))
        for content_hash in files:
            self._files.delete(content_hash)
        self._counters["swept"] += removed
        return removed

    def _delete_rows(self, wanted: list[ContentHash]) -> tuple[list[ContentHash], int]:
        """Which of these have files, and how many were there."""
        files = [key for key, is_file in self._rows("content_hash, data IS NULL", wanted) if is_file]
        removed = self._database.execute_many("DELETE FROM blobs WHERE content_hash = ?", [(h,) for h in wanted])
        return files, removed

    def remove_orphan_files(self, *, older_than_s: float = 0.0) -> int:
        """Remove files that no row names, left by a crash between file and row; returns how many.

        Those made since then stay, by the file system's clock: their rows may be on the way.
        """
        orphans = [
            content_hash
            for content_hash in self._files.iterate(older_than_s=older_than_s)
            if not self._is_file(content_hash)
        ]
        removed = sum(map(self._delete_orphan, orphans))
        self._counters["orphans_removed"] += removed
        return removed

    def counters(self) -> Mapping[str, int]:
        """Since start: stored, corrupt, healed, file_missing, quarantine_dropped, unfinished_removed, orphans_removed,
        swept, refused_full, not_set_aside, and the faults of the disk.

        Every name counts blobs, files or faults; names that never happened are absent.
        """
        return {**self._counters, **self._database.faults.counters()}

    def try_writing(self) -> None:
        """Whether the disk takes writes again, files and rows; raises StoreNotWritable."""
        self._files.try_writing()
        with self._database.transaction():
            self._database.execute("UPDATE gc_state SET marking = marking")

    def _is_file(self, content_hash: ContentHash) -> bool:
        sql = "SELECT 1 FROM blobs WHERE content_hash = ? AND data IS NULL"
        return bool(self._database.query(sql, (content_hash,)))

    def _rows(self, columns: str, wanted: Iterable[ContentHash]) -> Iterator[Row]:
        """Rows of these blobs, in any order; in pages, as a statement's parameters are limited."""
        keys = list(wanted)
        for start in range(0, len(keys), _PAGE_ROWS):
            page = keys[start : start + _PAGE_ROWS]
            marks = ", ".join("?" * len(page))
            yield from self._database.query(f"SELECT {columns} FROM blobs WHERE content_hash IN ({marks})", page)

    def _unharmed(self, offered: Mapping[ContentHash, bytes]) -> frozenset[ContentHash]:
        """Which of the offered blobs are stored with exactly these bytes; a differing one is set aside (K-2.3).

        What is offered is verified: stored bytes that equal it are so too, and to compare is half of hashing.
        """
        unharmed: set[ContentHash] = set()
        for key, inline in list(self._rows("content_hash, data", offered)):
            try:
                self._reader.read(key, inline, offered[key])
            except (BlobNotFound, BlobHashMismatch, StoreNotReadable):
                self._counters["healed"] += 1
            else:
                unharmed.add(key)
        return frozenset(unharmed)
