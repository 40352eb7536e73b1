"""The UnixFS nodes of files, as IPFS tools ask for them: kept beside the manifests that they were made from.

A node is a function of the manifest, so nothing is lost with this table: its rows go with the manifest's, by a trigger,
and are made again when somebody looks. They are one in 5,000 of the files' bytes and count against no quota.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from agent_world.crypto.hashing import content_hash
from agent_world.store.home import Home
from agent_world.wire.cid import HASH_BYTES, Cid, Codec, ContentHash

PAGE_ROWS: Final = 256
"""Named contents looked at in one go."""
_NAMING: Final = (("file_index", "path", ""), ("pins", "name", ""), ("content", "cid", b""))
"""Tables that name content, their keys, and what is below every key."""
_DAG_CBOR: Final = bytes((1, Codec.DAG_CBOR))


@attrs.frozen(slots=True)
class UnixfsView:
    """What was found of one content."""

    root: ContentHash | None
    """The UnixFS root; None: it is no file."""


class UnixfsTable:
    """Of one home."""

    def __init__(self, home: Home) -> None:
        self._database = home.database

    def view(self, file: ContentHash) -> UnixfsView | None:
        """What is known of a content; None before ``note``."""
        rows = self._database.query("SELECT root_hash FROM unixfs_files WHERE file_hash = ?", (file,))
        return UnixfsView(rows[0][0]) if rows else None

    def add(self, file: ContentHash, nodes: Iterable[tuple[ContentHash, bytes]]) -> None:
        """Keep some nodes of a file; they count once ``note`` names its root."""
        with self._database.transaction():
            self._database.execute_many(
                "INSERT OR REPLACE INTO unixfs_nodes VALUES (?, ?, ?)", ((node, file, data) for node, data in nodes)
            )

    def note(self, file: ContentHash, root: ContentHash | None) -> None:
        """All nodes of a file are kept, or it is no file; nothing if its manifest has gone meanwhile."""
        with self._database.transaction():
            is_here = self._database.query("SELECT 1 FROM blobs WHERE content_hash = ?", (file,))
            if is_here:
                self._database.execute("INSERT OR REPLACE INTO unixfs_files VALUES (?, ?)", (file, root))
            else:
                self._database.execute("DELETE FROM unixfs_nodes WHERE file_hash = ?", (file,))

    def node(self, digest: ContentHash) -> bytes | None:
        """Verified bytes of a node; damaged ones are forgotten with their file's others, to be made again."""
        rows = self._database.query("SELECT data, file_hash FROM unixfs_nodes WHERE node_hash = ? LIMIT 1", (digest,))
        if not rows:
            return None
        data, file = rows[0]
        if isinstance(data, bytes) and content_hash(data) == digest:
            return data
        if not self._database.read_only:
            with self._database.transaction():
                self._database.execute("DELETE FROM unixfs_files WHERE file_hash = ?", (file,))
                self._database.execute("DELETE FROM unixfs_nodes WHERE file_hash = ?", (file,))
        return None

    def has(self, digest: ContentHash) -> bool:
        """Whether a node is kept; its bytes are not looked at."""
        return bool(self._database.query("SELECT 1 FROM unixfs_nodes WHERE node_hash = ? LIMIT 1", (digest,)))

    def unseen(self) -> Iterator[list[Cid]]:
        """Stored dag-cbor content that paths, pins or the world name and that nobody has looked at; page by page.

        Pages may be empty: between two of them others may have their turn.
        """
        for table, key, below in _NAMING:
            after: object = below
            while True:
                rows = self._database.query(
                    f"SELECT {key}, cid FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT ?", (after, PAGE_ROWS)
                )
                yield self._unseen_of({bytes(row[1]) for row in rows})
                if len(rows) < PAGE_ROWS:
                    break
                after = rows[-1][0]

    def _unseen_of(self, names: set[bytes]) -> list[Cid]:
        digests = sorted(name[-HASH_BYTES:] for name in names if name.startswith(_DAG_CBOR))
        marks = ", ".join("?" * len(digests))
        rows = self._database.query(
            f"SELECT content_hash FROM blobs WHERE content_hash IN ({marks})"
            " AND content_hash NOT IN (SELECT file_hash FROM unixfs_files)",
            digests,
        )
        return [Cid(Codec.DAG_CBOR, ContentHash(row[0])) for row in rows]

    def count(self) -> int:
        """Nodes that are kept."""
        return int(self._database.query("SELECT COUNT(*) FROM unixfs_nodes")[0][0])
