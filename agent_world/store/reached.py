"""What a collection's roots were found to reach: marks in temporary tables, made in small steps (D9).

A mark says how far links were followed, not only that a blob was met: a pin may keep a blob alone that a file of the
index keeps with all below it, and one that is a raw blob to one root is a manifest to another. So a blob that is met
again in a way that reaches more is followed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Final

from agent_world.distfs.links import links_in
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError
from agent_world.store.blobs import LocalCasStore
from agent_world.store.database import Database
from agent_world.wire.cid import Cid, Codec, ContentHash

READ_AT_ONCE: Final = 16
"""Blobs read for their links in one step; about 2 ms."""
_PAGE_ROWS: Final = 512
"""Parameters of a query."""


class Depth(IntEnum):
    """How far the links of a blob are followed; each reaches all that those before it do."""

    ALONE = 0
    """Not at all."""
    LINKS = 1
    """To the chain's blobs, and no further: what those link to is the chain's too, or reached from the last state."""
    STATE = 2
    """Through the chain's blobs, for the state after the last block; what it leaves to others is passed over."""


class TooMuch(Exception):
    """More to read than was allowed."""


class Reached:
    """The marks of one collection. ``begin`` before anything else."""

    def __init__(self, database: Database, blobs: LocalCasStore) -> None:
        self._database = database
        self._blobs = blobs
        self.count = 0
        """Blobs so far, one that several roots reach once."""
        self.missing = 0
        """Of these, how many were to be followed and are not here, or damaged."""
        self.damaged = 0
        """Of the missing, how many were here until they were read."""
        self.lost: Callable[[ContentHash], None] = lambda _content: None
        """Told of each that is damaged."""

    def begin(self) -> None:
        """Nothing is marked yet."""
        self.end()
        self._database.execute(
            "CREATE TEMP TABLE gc_marks (content_hash BLOB PRIMARY KEY, depth INTEGER NOT NULL) WITHOUT ROWID"
        )
        # What could not be followed, since it was not here: its manifest may come before the sweep.
        self._database.execute(
            "CREATE TEMP TABLE gc_missed (content_hash BLOB PRIMARY KEY, depth INTEGER NOT NULL) WITHOUT ROWID"
        )

    def end(self) -> None:
        """Forget everything."""
        self._database.execute("DROP TABLE IF EXISTS temp.gc_marks")
        self._database.execute("DROP TABLE IF EXISTS temp.gc_missed")

    def has(self, content_hash: ContentHash) -> bool:
        """Whether a root was found to reach it."""
        return bool(self._database.query("SELECT 1 FROM temp.gc_marks WHERE content_hash = ?", (content_hash,)))

    def follow(self, roots: Iterable[Cid], depth: Depth, reads_max: int | None = None) -> Iterator[None]:
        """Mark these and all below; raises TooMuch after ``reads_max`` reads, with marks that then are to be undone."""
        stack = list(roots)
        reads = 0
        while stack:
            cid = stack.pop()
            goal = Depth.ALONE if cid.codec is Codec.RAW else depth
            if not self._reaches_more(cid.digest, goal) or goal is Depth.ALONE:
                continue
            kept = self._database.query("SELECT kept FROM blobs WHERE content_hash = ?", (cid.digest,))
            is_chain = kept == [(1,)]
            if goal is Depth.LINKS and is_chain:
                continue
            if reads == reads_max:
                raise TooMuch
            reads += 1
            below = self._below(cid) if kept else None
            if below is None:
                self._miss(cid, goal, is_damaged=bool(kept))
                continue
            if is_chain:
                below = self._not_left_to_others(below)
            raw = [(link.digest,) for link in below if link.codec is Codec.RAW]
            self.count += max(0, self._database.execute_many("INSERT OR IGNORE INTO temp.gc_marks VALUES (?, 0)", raw))
            stack += [link for link in below if link.codec is not Codec.RAW]
            if reads % READ_AT_ONCE == 0:
                yield
        yield

    def follow_what_came(self, reads_max: int | None = None) -> Iterator[None]:
        """Mark what is below blobs that were missing and are here now; raises as ``follow``."""
        came = self._database.query(
            # EXISTS, not IN: SQLite goes through all blobs otherwise, though mostly nothing is missing.
            "SELECT content_hash, depth FROM temp.gc_missed m WHERE EXISTS"
            " (SELECT 1 FROM blobs b WHERE b.content_hash = m.content_hash)"
        )
        keys = [(content_hash,) for content_hash, _ in came]
        self._database.execute_many("DELETE FROM temp.gc_missed WHERE content_hash = ?", keys)
        self._database.execute_many("UPDATE temp.gc_marks SET depth = 0 WHERE content_hash = ?", keys)
        for depth in (Depth.STATE, Depth.LINKS):
            cids = [Cid(Codec.DAG_CBOR, ContentHash(content_hash)) for content_hash, deep in came if deep == depth]
            yield from self.follow(cids, depth, reads_max)

    def _reaches_more(self, content_hash: ContentHash, depth: Depth) -> bool:
        """Mark it; False if it was marked as deep already."""
        new = self._database.execute("INSERT OR IGNORE INTO temp.gc_marks VALUES (?, ?)", (content_hash, depth))
        self.count += bool(new)
        return bool(
            new
            or self._database.execute(
                "UPDATE temp.gc_marks SET depth = ? WHERE content_hash = ? AND depth < ?", (depth, content_hash, depth)
            )
        )

    def _below(self, cid: Cid) -> list[Cid] | None:
        """What it links to; None if it is damaged."""
        try:
            return links_in(cid, self._blobs.get(cid.digest))
        except (BlobNotFound, BlobHashMismatch):
            return None
        except DecodeError:
            return []  # anybody may call any bytes dag-cbor: those that are not reach nothing

    def _miss(self, cid: Cid, depth: Depth, *, is_damaged: bool) -> None:
        self.missing += 1
        self._database.execute(
            "INSERT INTO temp.gc_missed VALUES (?, ?) ON CONFLICT DO UPDATE SET depth = max(depth, excluded.depth)",
            (cid.digest, depth),
        )
        if is_damaged:
            self.damaged += 1
            self.lost(cid.digest)

    def _not_left_to_others(self, links: list[Cid]) -> list[Cid]:
        """Without content that the world names and other storage nodes keep."""
        if not self._database.query("SELECT 1 FROM content_counts WHERE state = 'named' AND items > 0"):
            return links
        left: set[bytes] = set()
        for start in range(0, len(links), _PAGE_ROWS):
            part = [link.to_bytes() for link in links[start : start + _PAGE_ROWS]]
            marks = ", ".join("?" * len(part))
            rows = self._database.query(
                f"SELECT cid FROM content WHERE state = 'named' AND cid IN ({marks})", tuple(part)
            )
            left.update(cid for (cid,) in rows)
        return [link for link in links if link.to_bytes() not in left]
