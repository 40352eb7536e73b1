"""What a node wants for reasons of its own, and what it has given up: both decide about copies that others plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent_world.store.home import Home
from agent_world.wire.cid import Cid, ContentHash


class OwnContent:
    """Of one home."""

    def __init__(self, home: Home) -> None:
        self._database = home.database

    def bound(self, cids: Sequence[Cid], now_ms: int) -> frozenset[Cid]:
        """Those of ``cids`` that a pin, a path of the index or the outbox of the record log names itself."""
        if not cids:
            return frozenset()
        marks = ", ".join("?" * len(cids))
        names = tuple(cid.to_bytes() for cid in cids)
        rows = self._database.query(
            f"SELECT cid FROM pins WHERE coalesce(expires_ms > ?, 1) AND cid IN ({marks})"
            f" UNION SELECT cid FROM file_index WHERE cid IN ({marks})"
            f" UNION SELECT cid FROM replication_outbox WHERE cid IN ({marks})",
            (now_ms, *names, *names, *names),
        )
        found = {row[0] for row in rows}
        return frozenset(cid for cid in cids if cid.to_bytes() in found)

    def discard(self, hashes: Iterable[ContentHash]) -> None:
        """The next collection removes these blobs without a grace, unless something still reaches them."""
        with self._database.transaction():
            self._database.execute_many(
                "INSERT OR REPLACE INTO gc_candidates"
                " SELECT content_hash, 0, rowid FROM blobs WHERE content_hash = ? AND kept = 0",
                [(content_hash,) for content_hash in hashes],
            )

    def discarded_bytes(self) -> int:
        """Of blobs that were discarded and are still here."""
        rows = self._database.query(
            "SELECT coalesce(sum(b.size_bytes), 0) FROM gc_candidates c JOIN blobs b ON b.content_hash = c.content_hash"
            " WHERE c.since_ms = 0"
        )
        return int(rows[0][0])
