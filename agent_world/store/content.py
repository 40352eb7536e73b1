"""Content that the storage role pulls: wanted, being fetched, here, not to be had at the moment, or left to others.

Nothing waits for content: what cannot be had is set aside as unavailable and can be taken up again later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import attrs

from agent_world.config import StorageConfig
from agent_world.errors import DecodeError, HomeError, LocalError
from agent_world.store.database import Row
from agent_world.store.home import Home
from agent_world.wire.cid import Cid
from agent_world.wire.ids import TimeMs
from agent_world.wire.limits import I64_MAX

PAGE_ROWS_MAX: Final = 1024
"""Rows in one answer; source: one fetch_blobs request (BLOBS_PER_REQUEST_MAX)."""
RETRY_MS_MAX: Final = 60_000
"""The pause between tries doubles up to this."""
NEVER_MS: Final = I64_MAX
"""Later than any clock."""
STATED_BYTES_MAX: Final = 2**43
"""A larger size counts as this one: anybody may state any, and a million of these can still be added up in SQLite."""
ERROR_CHARS_MAX: Final = 200
"""Of an error's text this much is kept; the rest says nothing more."""


class ContentState(StrEnum):
    """Where a piece of content is in its life."""

    NAMED = "named"
    """The world names it, and it is left to other storage nodes, or that is not decided yet."""

    WANTED = "wanted"
    FETCHING = "fetching"
    """A file whose manifest is here and of whose chunks some are not."""
    HAVE = "have"
    """All of it is here: of a file every chunk."""
    UNAVAILABLE = "unavailable"
    """Given up after pull_attempts_max tries; ``reopen`` makes it wanted again."""


@attrs.frozen(slots=True, kw_only=True)
class Content:
    """One row: what is wanted, and how the search goes."""

    cid: Cid
    size_bytes: int
    """As stated by whoever referred to it, checked when the bytes are here; of a file all its bytes."""
    here_bytes: int = 0
    """Of a file that is being fetched: how many of its bytes are here, as last noted."""
    state: ContentState
    attempts: int
    next_try_ms: TimeMs
    last_error: str
    is_named: bool = False
    """Whether the world names it, rather than other content."""


@attrs.frozen(slots=True, kw_only=True)
class ContentCount:
    """How much is in one state."""

    items: int = 0
    size_bytes: int = 0


class ContentTable:
    """The table of one home. Times are the wall clock's, since they outlive the process."""

    def __init__(self, home: Home, config: StorageConfig | None = None) -> None:
        self._database = home.database
        self._config = config or StorageConfig()

    def want(self, items: Iterable[tuple[Cid, int]], now_ms: int) -> int:
        """Ask for content (CID, stated size in bytes) from now on; known content stays as it is. Returns the new."""
        rows = [
            (cid.to_bytes(), min(size, STATED_BYTES_MAX), ContentState.WANTED, 0, now_ms, "") for cid, size in items
        ]
        with self._database.transaction():
            return self._database.execute_many(
                "INSERT INTO content (cid, size_bytes, state, attempts, next_try_ms, last_error)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (cid) DO NOTHING",
                rows,
            )

    def name(self, items: Iterable[tuple[Cid, int]], due_ms: int) -> int:
        """Content (CID, stated size in bytes) that the world names; it is ``undecided`` from ``due_ms`` on.

        What is wanted or here already stays so, and counts as named from now on. Returns how many rows changed.
        """
        rows = [(cid.to_bytes(), min(size, STATED_BYTES_MAX), ContentState.NAMED, due_ms) for cid, size in items]
        with self._database.transaction():
            return self._database.execute_many(
                "INSERT INTO content (cid, size_bytes, state, attempts, next_try_ms, last_error, named)"
                " VALUES (?, ?, ?, 0, ?, '', 1) ON CONFLICT (cid) DO UPDATE SET named = 1,"
                " size_bytes = CASE size_bytes WHEN 0 THEN excluded.size_bytes ELSE size_bytes END WHERE named = 0",
                rows,
            )

    def leave(self, cids: Iterable[Cid]) -> None:
        """Others keep these; only ``take_up`` brings one back."""
        with self._database.transaction():
            self._database.execute_many(
                "UPDATE content SET next_try_ms = ? WHERE cid = ? AND state = ?",
                [(NEVER_MS, cid.to_bytes(), ContentState.NAMED) for cid in cids],
            )

    def take_up(self, cid: Cid, now_ms: int) -> bool:
        """Want content that is left to others, or was given up as not to be had; whether it was."""
        states = (ContentState.NAMED, ContentState.UNAVAILABLE)
        return self._reset("cid = ? AND state IN (?, ?)", (cid.to_bytes(), *states), now_ms) == 1

    def take_up_all(self, now_ms: int) -> int:
        """Want everything that is named; how much that is new."""
        return self._reset("state = ?", (ContentState.NAMED,), now_ms)

    def give_up(self, cid: Cid) -> bool:
        """Others keep what was here or on its way; whether it was."""
        with self._database.transaction():
            return (
                self._database.execute(
                    "UPDATE content SET state = ?, here_bytes = 0, next_try_ms = ?, last_error = ''"
                    " WHERE cid = ? AND named = 1 AND state <> ?",
                    (ContentState.NAMED, NEVER_MS, cid.to_bytes(), ContentState.NAMED),
                )
                == 1
            )

    def named_after(self, after: Cid | None, limit: int) -> tuple[Content, ...]:
        """Content that the world names, ascending by CID behind ``after``; at most ``limit`` and PAGE_ROWS_MAX."""
        rows = self._database.query(
            f"SELECT {_COLUMNS} FROM content WHERE named = 1 AND cid > ? ORDER BY cid LIMIT ?",
            (b"" if after is None else after.to_bytes(), min(limit, PAGE_ROWS_MAX)),
        )
        return tuple(map(_content, rows))

    def get(self, cid: Cid) -> Content | None:
        """What is known of ``cid``; None if nobody wanted it."""
        rows = self._database.query(f"SELECT {_COLUMNS} FROM content WHERE cid = ?", (cid.to_bytes(),))
        return _content(rows[0]) if rows else None

    def get_many(self, cids: Sequence[Cid]) -> dict[Cid, Content]:
        """Those of ``cids`` of which something is known; a query for every PAGE_ROWS_MAX of them."""
        found: dict[Cid, Content] = {}
        for start in range(0, len(cids), PAGE_ROWS_MAX):
            names = tuple(cid.to_bytes() for cid in cids[start : start + PAGE_ROWS_MAX])
            marks = ", ".join("?" * len(names))
            rows = self._database.query(f"SELECT {_COLUMNS} FROM content WHERE cid IN ({marks})", names)
            found.update((content.cid, content) for content in map(_content, rows))
        return found

    def due(self, now_ms: int, limit: int, state: ContentState = ContentState.WANTED) -> tuple[Content, ...]:
        """Content in this state whose next try is due, longest due first; at most ``limit`` and PAGE_ROWS_MAX."""
        rows = self._database.query(
            f"SELECT {_COLUMNS} FROM content WHERE state = ? AND next_try_ms <= ? ORDER BY next_try_ms, cid LIMIT ?",
            (state, now_ms, min(limit, PAGE_ROWS_MAX)),
        )
        return tuple(map(_content, rows))

    def next_due_ms(self) -> TimeMs | None:
        """When the next try is due; None if nothing is wanted."""
        rows = self._database.query("SELECT min(next_try_ms) FROM content WHERE state = ?", (ContentState.WANTED,))
        return None if rows[0][0] is None else TimeMs(rows[0][0])

    def list(self, state: ContentState, limit: int) -> tuple[Content, ...]:
        """Content in one state, longest due first; at most ``limit`` and PAGE_ROWS_MAX."""
        rows = self._database.query(
            f"SELECT {_COLUMNS} FROM content WHERE state = ? ORDER BY next_try_ms, cid LIMIT ?",
            (state, min(limit, PAGE_ROWS_MAX)),
        )
        return tuple(map(_content, rows))

    def mark_have(self, cids: Iterable[Cid]) -> None:
        """The bytes are stored and verified; unknown CIDs are passed over."""
        with self._database.transaction():
            self._database.execute_many(
                "UPDATE content SET state = ?, last_error = '' WHERE cid = ?",
                [(ContentState.HAVE, cid.to_bytes()) for cid in cids],
            )

    def mark_fetching(self, cid: Cid, size_bytes: int, now_ms: int) -> None:
        """The manifest of a wanted file is here: its chunks, ``size_bytes`` in all, are to be fetched from now on."""
        with self._database.transaction():
            self._database.execute(
                "UPDATE content SET state = ?, size_bytes = ?, here_bytes = 0, attempts = 0, next_try_ms = ?,"
                " last_error = '' WHERE cid = ? AND state = ?",
                (ContentState.FETCHING, min(size_bytes, STATED_BYTES_MAX), now_ms, cid.to_bytes(), ContentState.WANTED),
            )

    def mark_progress(self, cid: Cid, here_bytes: int) -> None:
        """So much of a file that is being fetched is here; a change in it sets the count of tries back."""
        counted = min(here_bytes, STATED_BYTES_MAX)
        with self._database.transaction():
            self._database.execute(
                "UPDATE content SET here_bytes = ?, attempts = 0 WHERE cid = ? AND state = ? AND here_bytes <> ?",
                (counted, cid.to_bytes(), ContentState.FETCHING, counted),
            )

    def mark_failed(self, cid: Cid, error: str, now_ms: int, *, jitter_ms: int = 0) -> ContentState:
        """A try over all peers failed: the next after a doubling pause plus ``jitter_ms``, in the end unavailable.

        Returns the new state; raises LocalError for content that is neither wanted nor being fetched.
        """
        content = self.get(cid)
        if content is None or content.state not in (ContentState.WANTED, ContentState.FETCHING):
            raise LocalError(f"{cid} was tried, but it is not wanted")
        attempts = content.attempts + 1
        given_up = attempts >= self._config.pull_attempts_max
        state = ContentState.UNAVAILABLE if given_up else content.state
        # Beyond 2^32 the pause is at its maximum anyway; without the bound a large attempts_max makes huge numbers.
        pause_ms = min(self._config.pull_retry_ms << min(content.attempts, 32), RETRY_MS_MAX) + jitter_ms
        with self._database.transaction():
            self._database.execute(
                "UPDATE content SET state = ?, attempts = ?, next_try_ms = ?, last_error = ? WHERE cid = ?",
                (state, attempts, now_ms + pause_ms, error[:ERROR_CHARS_MAX], cid.to_bytes()),
            )
        return state

    def mark_lost(self, cid: Cid, now_ms: int) -> bool:
        """What was here is not any more (quarantine, deletion): wanted again. Whether it was here."""
        return self._reset("cid = ? AND state = ?", (cid.to_bytes(), ContentState.HAVE), now_ms) == 1

    def reopen(self, now_ms: int, limit: int) -> int:
        """Try unavailable content again, the longest given up first, such as when a new peer appears."""
        chosen = "cid IN (SELECT cid FROM content WHERE state = ? ORDER BY next_try_ms, cid LIMIT ?)"
        return self._reset(chosen, (ContentState.UNAVAILABLE, min(limit, PAGE_ROWS_MAX)), now_ms)

    def counts(self) -> dict[ContentState, ContentCount]:
        """Items and stated bytes in every state; costs a row each, whatever the size of the table."""
        rows = self._database.query("SELECT state, items, size_bytes FROM content_counts")
        return {ContentState(state): ContentCount(items=items, size_bytes=size) for state, items, size in rows}

    def missing_bytes(self) -> int:
        """Of what is wanted or being fetched: how many bytes are still to come, as stated and as last noted."""
        rows = self._database.query(
            "SELECT coalesce(sum(max(0, size_bytes - here_bytes)), 0) FROM content WHERE state = ?",
            (ContentState.FETCHING,),
        )
        wanted = self.counts().get(ContentState.WANTED, ContentCount())
        return wanted.size_bytes + int(rows[0][0])

    def _reset(self, where: str, parameters: tuple[object, ...], now_ms: int) -> int:
        with self._database.transaction():
            return self._database.execute(
                f"UPDATE content SET state = ?, attempts = 0, next_try_ms = ?, last_error = '' WHERE {where}",
                (ContentState.WANTED, now_ms, *parameters),
            )


_COLUMNS: Final = "cid, size_bytes, state, attempts, next_try_ms, last_error, here_bytes, named"


def _content(row: Row) -> Content:
    """Raises HomeError for a damaged row."""
    cid, size_bytes, state, attempts, next_try_ms, last_error, here_bytes, named = row
    try:
        return Content(
            cid=Cid.from_bytes(cid), size_bytes=size_bytes, state=ContentState(state), attempts=attempts,
            next_try_ms=next_try_ms, last_error=last_error, here_bytes=here_bytes, is_named=bool(named),
        )  # fmt: skip
    except (DecodeError, ValueError, TypeError) as error:
        raise HomeError(f"the table of content is damaged: {error}; restore the home from a copy") from None
