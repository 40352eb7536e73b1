"""How far the reading of all blobs has come, and which were damaged and are not back yet; outlives the process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from agent_world.store.home import Home
from agent_world.wire.cid import ContentHash

LOST_MAX: Final = 65_536
"""Damaged blobs remembered, 4 MiB of rows; a further one is not, and is counted by whoever adds it."""


@attrs.frozen(slots=True)
class ScrubPlace:
    """Where the reading is."""

    last_hash: ContentHash | None
    """Everything up to it was read in this pass; None at the beginning of one."""
    passes: int
    """Times that all blobs were read."""
    ended_ms: int | None
    """Wall clock at the end of the last pass; None before that."""


class ScrubTable:
    """The place and the lost blobs of one home."""

    def __init__(self, home: Home) -> None:
        self._database = home.database

    def place(self) -> ScrubPlace:
        """Where to go on."""
        last_hash, passes, ended_ms = self._database.query("SELECT last_hash, passes, ended_ms FROM scrub")[0]
        return ScrubPlace(None if last_hash is None else ContentHash(last_hash), passes, ended_ms)

    def move(self, last_hash: ContentHash) -> None:
        """Everything up to this hash was read."""
        with self._database.transaction():
            self._database.execute("UPDATE scrub SET last_hash = ?", (last_hash,))

    def end_pass(self, now_ms: int) -> None:
        """Everything was read; the next pass begins at the first blob."""
        with self._database.transaction():
            self._database.execute("UPDATE scrub SET last_hash = NULL, passes = passes + 1, ended_ms = ?", (now_ms,))

    def add_lost(self, content: ContentHash, now_ms: int) -> bool:
        """Remember a blob that is to be fetched again; False if there is no room for it."""
        with self._database.transaction():
            return (
                self._database.execute(
                    "INSERT INTO lost_blobs SELECT ?, ?, 0 WHERE (SELECT COUNT(*) FROM lost_blobs) < ?"
                    " ON CONFLICT (content_hash) DO UPDATE SET found_ms = found_ms",
                    (content, now_ms, LOST_MAX),
                )
                == 1
            )

    def lost(self, limit: int) -> tuple[ContentHash, ...]:
        """Those that were tried least, at most ``limit``."""
        rows = self._database.query(
            "SELECT content_hash FROM lost_blobs ORDER BY tries, content_hash LIMIT ?", (limit,)
        )
        return tuple(ContentHash(row[0]) for row in rows)

    def lost_count(self) -> int:
        """How many there are."""
        return int(self._database.query("SELECT COUNT(*) FROM lost_blobs")[0][0])

    def tried(self, content: ContentHash) -> int:
        """One more try was in vain; returns how many were."""
        with self._database.transaction():
            self._database.execute("UPDATE lost_blobs SET tries = tries + 1 WHERE content_hash = ?", (content,))
        rows = self._database.query("SELECT tries FROM lost_blobs WHERE content_hash = ?", (content,))
        return int(rows[0][0]) if rows else 0

    def forget(self, contents: Iterable[ContentHash]) -> None:
        """These are back, or given up."""
        with self._database.transaction():
            self._database.execute_many("DELETE FROM lost_blobs WHERE content_hash = ?", [(item,) for item in contents])
