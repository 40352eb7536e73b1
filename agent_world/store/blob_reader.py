"""Verified bytes of stored blobs. What is corrupt or lost is looked at twice before it exists no more.

Between the first look and the writing down of what it found, another process may have put good bytes in its place, or
a sweep may have taken the blob and somebody stored it anew. So the second look is in the transaction that writes.
"""

from __future__ import annotations

from collections import Counter

from agent_world.crypto.hashing import verify_blob
from agent_world.errors import BlobHashMismatch, BlobNotFound, StoreNotWritable
from agent_world.store.blob_files import BlobFiles
from agent_world.store.database import Database
from agent_world.wire.cid import ContentHash


class BlobReader:
    """Of one store, whose counters it adds to."""

    def __init__(self, database: Database, files: BlobFiles, counters: Counter[str]) -> None:
        self._database = database
        self._files = files
        self._counters = counters

    def read(self, content_hash: ContentHash, inline: object, expected: bytes | None = None) -> bytes:
        """The bytes of a row, or the typed error; what is corrupt or lost no longer exists afterwards.

        ``inline`` is the row's data, None for a file. ``expected``, if given, hashes to ``content_hash``. Raises
        BlobNotFound, BlobHashMismatch.
        """
        try:
            return self._checked(content_hash, inline, expected)
        except (BlobNotFound, BlobHashMismatch) as error:
            if self._database.read_only:
                self._count(error)
                raise
            found: BlobNotFound | BlobHashMismatch = error
        try:
            with self._database.transaction():
                rows = self._database.query("SELECT data FROM blobs WHERE content_hash = ?", (content_hash,))
                if not rows:
                    raise BlobNotFound(f"no blob {content_hash.hex()} is stored here any more")
                try:
                    return self._checked(content_hash, rows[0][0], expected)
                except (BlobNotFound, BlobHashMismatch) as error:
                    found = error
                where = self._put_aside(content_hash, rows[0][0], found)
        except StoreNotWritable:
            # What a disk that takes no writes does not keep a reader from being told; the next reader finds it again.
            # Inside a caller's transaction it is raised: SQLite may have undone that as a whole.
            if self._database.in_transaction:
                raise
            self._counters["not_set_aside"] += 1
            where = ""
        self._count(found)
        raise type(found)(f"{found}{where}")

    def forget(self, content_hash: ContentHash) -> None:
        """Let it exist no more, inside the caller's transaction; a part of the chain is one again when it is healed."""
        self._database.execute(
            "INSERT OR IGNORE INTO kept_lost SELECT content_hash FROM blobs WHERE content_hash = ? AND kept = 1",
            (content_hash,),
        )
        self._database.execute("DELETE FROM blobs WHERE content_hash = ?", (content_hash,))

    def _checked(self, content_hash: ContentHash, inline: object, expected: bytes | None) -> bytes:
        data = self._files.read(content_hash) if inline is None else _as_bytes(inline)
        if data is None:
            raise BlobNotFound(f"the file of blob {content_hash.hex()} is gone; it has to be fetched again")
        return data if data == expected else verify_blob(data, content_hash)

    def _count(self, error: BlobNotFound | BlobHashMismatch) -> None:
        self._counters["corrupt" if isinstance(error, BlobHashMismatch) else "file_missing"] += 1

    def _put_aside(self, content_hash: ContentHash, inline: object, found: Exception) -> str:
        """What is to be said about it."""
        where = ""
        if isinstance(found, BlobHashMismatch):
            data = None if inline is None else _as_bytes(inline)
            self._counters["quarantine_dropped"] += self._files.quarantine(content_hash, data)
            where = "; the damaged bytes are in quarantine/"
        self.forget(content_hash)
        return where


def _as_bytes(value: object) -> bytes:
    """A damaged page can make a column of any type; as bytes it fails the hash check like other damage."""
    return value if isinstance(value, bytes) else repr(value).encode()
