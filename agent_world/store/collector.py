"""Garbage: what no root reaches, found and removed in small steps, beside writers and without a lock over all (D9).

Why nothing that is reachable goes:

- Marks come before the sweep, and every root that appears after marking has begun is noted by a trigger in its own
  transaction, from whatever process. A sweep removes a batch in one transaction that first marks what was noted, so
  at its commit every root in the database has been followed.
- A sweep removes only rows of ``gc_candidates``: what no root reached at some earlier time. Storing a blob again takes
  it off that table, in the transaction that relies on it; what that transaction no longer finds is stored anew.
- What is stored before its root, such as the chunks of a long import, is under a hold: candidates that are not older
  than the oldest hold stay. So does everything that has not been a candidate for the time of grace.
- What the chain has committed is not a candidate at all.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import attrs

from agent_world.errors import ErrorCode, Refused
from agent_world.store.blobs import LocalCasStore
from agent_world.store.database import Row
from agent_world.store.home import Home
from agent_world.store.reached import Depth, Reached, TooMuch
from agent_world.wire.cid import Cid, ContentHash

PAGE_ROWS: Final = 512
"""Rows of a table that are read or written at a time."""
SWEEP_AT_ONCE: Final = 256
"""Blobs removed in one transaction, in which no other writer gets a turn."""
LATE_READS_MAX: Final = 256
"""Blobs read inside a sweep's transaction for roots that came meanwhile; with more to read it gives up its turn."""


@attrs.frozen(slots=True)
class Garbage:
    """Blobs and their bytes."""

    items: int = 0
    size_bytes: int = 0

    def plus(self, items: int, size_bytes: int) -> Garbage:
        """With so many more."""
        return Garbage(self.items + items, self.size_bytes + size_bytes)


_DUE: Final = (
    "gc_candidates c JOIN blobs b ON b.content_hash = c.content_hash AND b.kept = 0 WHERE c.since_ms BETWEEN ? AND ?"
)


class Collector:
    """One collection of one home: ``mark``, ``note``, then ``sweep``. Generators yield after each small step."""

    def __init__(self, home: Home, blobs: LocalCasStore, live_roots: Callable[[], Iterable[Cid]] = tuple) -> None:
        """``live_roots`` are those that no table names, such as the state after the last block."""
        self._database = home.database
        self._lock_path = home.files.path / "gc.lock"
        self._blobs = blobs
        self._live_roots = live_roots
        self._reached = Reached(home.database, blobs)

    def tell_lost(self, lost: Callable[[ContentHash], None]) -> None:
        """Have ``lost`` told of content that marking finds damaged, so that it is fetched again."""
        self._reached.lost = lost

    @property
    def marked(self) -> int:
        """Blobs that roots were found to reach so far, one that several reach once."""
        return self._reached.count

    @property
    def missing(self) -> int:
        """Linked content that is not here, or is damaged: it was met while marking."""
        return self._reached.missing

    @property
    def damaged(self) -> int:
        """Of the missing, what was here until it was read. With any of it this collection removes nothing.

        What only a damaged manifest reaches would go before the manifest is fetched again; the next collection finds
        it here, or takes it for what is missing anyhow.
        """
        return self._reached.damaged

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One collection of a home at a time, over all processes; raises Refused (ERR_BUSY), StoreNotWritable."""
        with self._database.faults.writing("blobs", f"{self._lock_path} cannot be opened"):
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Refused(ErrorCode.BUSY, "garbage is being collected already") from None
            try:
                yield
            finally:
                self._end()
        finally:
            os.close(lock)

    def _end(self) -> None:
        with self._database.transaction():
            self._database.execute("UPDATE gc_state SET marking = 0")
            self._database.execute("DELETE FROM gc_new_roots")
        self._reached.end()

    def mark(self, now_ms: int) -> Iterator[None]:
        """Follow every root; afterwards ``is_marked`` tells what is reached."""
        self._blobs.renew_holds()
        with self._database.transaction():
            self._database.execute("UPDATE gc_state SET marking = 1")
            self._database.execute("DELETE FROM gc_new_roots")
            self._database.execute("DELETE FROM gc_holds WHERE until_ms <= ?", (now_ms,))
        self._reached.begin()
        yield from self._reached.follow(self._live_roots(), Depth.STATE)
        for _, cid, depth in self._named_roots(now_ms):
            yield from self._reached.follow([cid], depth)

    def _named_roots(self, now_ms: int) -> Iterator[tuple[str, Cid, Depth]]:
        """Every root: what people know it by, and how far its links keep what is below."""
        pins = "SELECT name, cid, recursive FROM pins WHERE coalesce(expires_ms > ?, 1) AND name > ? ORDER BY name"
        for name, cid, recursive in self._pages(pins, "", now_ms):
            yield f"pin {name!r}", cid, Depth.LINKS if recursive else Depth.ALONE
        for path, cid, _ in self._pages("SELECT path, cid, 1 FROM file_index WHERE path > ? ORDER BY path", ""):
            yield f"file {path!r}", cid, Depth.LINKS
        # The record log may have dropped or replaced the row in the index of what still waits to be published.
        waiting = "SELECT position, cid, 1 FROM replication_outbox WHERE position > ? AND cid != x'' ORDER BY position"
        for _, cid, _ in self._pages(waiting, 0):
            yield "the outbox of the record log", cid, Depth.LINKS
        kept = "SELECT cid, cid, 1 FROM content WHERE state <> 'named' AND cid > ? ORDER BY cid"
        for _, cid, _ in self._pages(kept, b""):
            yield "the world, whose content this node keeps,", cid, Depth.LINKS

    def _pages(self, sql: str, after: object, *before: object) -> Iterator[tuple[str, Cid, int]]:
        """Rows (key, cid, number), read in pages: the tables may change meanwhile."""
        while True:
            rows = self._database.query(f"{sql} LIMIT {PAGE_ROWS}", (*before, after))
            yield from ((key, Cid.from_bytes(cid), number) for key, cid, number in rows)
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1][0]

    def is_marked(self, content_hash: ContentHash) -> bool:
        """Whether a root reaches it, as of ``mark``."""
        return self._reached.has(content_hash)

    def unreachable(self) -> Iterator[tuple[ContentHash, int, int]]:
        """Hash, bytes and age (lower is older) of what is stored, not the chain's, and not marked.

        Ascending by hash, read in pages.
        """
        after = b""
        while True:
            rows = self._database.query(
                "SELECT content_hash, size_bytes, rowid FROM blobs"
                " WHERE kept = 0 AND content_hash > ? AND content_hash NOT IN"
                " (SELECT content_hash FROM temp.gc_marks) ORDER BY content_hash LIMIT ?",
                (after, PAGE_ROWS),
            )
            yield from rows
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1][0]

    def note(self, now_ms: int) -> Iterator[Garbage]:
        """Remember since when nothing reaches what is unreachable now; the last yield is all of it."""
        found = Garbage()
        page: list[tuple[ContentHash, int, int]] = []
        for content_hash, size_bytes, age in self.unreachable():
            page.append((content_hash, now_ms, age))
            found = found.plus(1, size_bytes)
            if len(page) == PAGE_ROWS:
                self._note(page)
                page.clear()
                yield found
        self._note(page)
        yield from self._forget_reached(found)
        yield found

    def _note(self, rows: Sequence[Row]) -> None:
        if rows:
            with self._database.transaction():
                # What was put again since marking is under a hold that may have begun later than this collection.
                self._database.execute_many(
                    "INSERT OR IGNORE INTO gc_candidates VALUES"
                    " (?, max(?, (SELECT coalesce(max(since_ms), 0) FROM gc_holds)), ?)",
                    rows,
                )

    def _forget_reached(self, found: Garbage) -> Iterator[Garbage]:
        """What is reached again, or gone, is a candidate no more."""
        after = b""
        while True:
            rows = self._database.query(
                "SELECT content_hash, content_hash IN (SELECT content_hash FROM temp.gc_marks) OR content_hash NOT IN"
                " (SELECT content_hash FROM blobs) FROM gc_candidates WHERE content_hash > ? ORDER BY 1 LIMIT ?",
                (after, PAGE_ROWS),
            )
            with self._database.transaction():
                self._database.execute_many(
                    "DELETE FROM gc_candidates WHERE content_hash = ?", [(key,) for key, is_over in rows if is_over]
                )
            yield found
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1][0]

    def due(self, now_ms: int, grace_ms: int) -> Garbage:
        """What ``sweep`` would remove now."""
        rows = self._database.query(
            f"SELECT count(*), coalesce(sum(b.size_bytes), 0) FROM {_DUE}", self._due(now_ms, grace_ms)
        )
        return Garbage(*rows[0])

    def sweep(self, now_ms: int, grace_ms: int, *, down_to_bytes: int | None = None) -> Iterator[Garbage]:
        """Remove candidates of at least this age, the oldest first; yields what went in each step.

        ``down_to_bytes``: stop once all blobs that are not the chain's together have no more than this. Removes nothing
        once something is ``damaged``.
        """
        after = -1
        while True:
            rows = self._database.query(
                f"SELECT c.age, c.content_hash, b.size_bytes FROM {_DUE} AND c.age > ? ORDER BY c.age LIMIT ?",
                (*self._due(now_ms, grace_ms), after, SWEEP_AT_ONCE),
            )
            if down_to_bytes is not None:
                rows = _enough(rows, self._foreign_bytes() - down_to_bytes)
            if not rows:
                return
            try:
                with self._database.transaction():
                    self._mark_late(LATE_READS_MAX)
                    if self.damaged:
                        return
                    removed = self._remove(rows, self._due(now_ms, grace_ms))
            except TooMuch:
                yield from (Garbage() for _ in self._mark_late_roots(None))
                continue
            after = rows[-1][0]
            yield removed

    def remove(self, content_hash: ContentHash) -> bool:
        """After ``mark``: remove one blob whatever its age; whether it went.

        Not if something reaches it, or may: an import is under way, or something is ``damaged``.
        """
        # Noted before, in a transaction of its own: of what is noted people look for the file, should this be killed.
        return self._if_garbage(content_hash, self._note_one) and self._if_garbage(content_hash, self._remove_one)

    def _if_garbage(self, content_hash: ContentHash, act: Callable[[ContentHash], None]) -> bool:
        while True:
            try:
                with self._database.transaction():
                    self._mark_late(LATE_READS_MAX)
                    is_held = self._database.query("SELECT 1 FROM gc_holds")
                    if is_held or self.damaged or not self._is_garbage(content_hash):
                        return False
                    act(content_hash)
                return True
            except TooMuch:
                for _ in self._mark_late_roots(None):
                    pass

    def _note_one(self, content_hash: ContentHash) -> None:
        now_ms = self._blobs.wall_ms()
        self._note(
            self._database.query(
                "SELECT content_hash, ?, rowid FROM blobs WHERE content_hash = ?", (now_ms, content_hash)
            )
        )

    def _remove_one(self, content_hash: ContentHash) -> None:
        self._blobs.sweep([content_hash])
        self._database.execute("DELETE FROM gc_candidates WHERE content_hash = ?", (content_hash,))

    def _is_garbage(self, content_hash: ContentHash) -> bool:
        found = self._database.query("SELECT 1 FROM blobs WHERE content_hash = ? AND kept = 0", (content_hash,))
        return bool(found) and not self.is_marked(content_hash)

    def holders(self, content_hash: ContentHash, now_ms: int) -> Iterator[str | None]:
        """What reaches it, for people; None after each root that does not."""
        if self._database.query("SELECT 1 FROM blobs WHERE content_hash = ? AND kept = 1", (content_hash,)):
            yield "it is part of the chain"
        if self._database.query("SELECT 1 FROM gc_holds"):
            yield "an import is under way, and may need it"
        if self.damaged:
            yield "content that was found damaged just now may link to it; try again once it is fetched"
        self._reached.begin()
        for _ in self._reached.follow(self._live_roots(), Depth.STATE):
            yield None
        if self.is_marked(content_hash):
            yield "the state of the world reaches it"
        for name, cid, depth in self._named_roots(now_ms):
            for _ in self._reached.follow([cid], depth):
                yield None
            if self.is_marked(content_hash):
                yield f"{name} reaches it"

    def _remove(self, rows: list[tuple[int, ContentHash, int]], due: tuple[int, int]) -> Garbage:
        size_of = {content_hash: size_bytes for _, content_hash, size_bytes in rows}
        marks = ", ".join("?" * len(size_of))
        going = [
            key
            for (key,) in self._database.query(
                # EXISTS, not IN: SQLite may take the longer of two INs, here all candidates, to begin with.
                f"SELECT content_hash FROM blobs b WHERE content_hash IN ({marks}) AND kept = 0 AND EXISTS"
                " (SELECT 1 FROM gc_candidates c WHERE c.content_hash = b.content_hash AND c.since_ms BETWEEN ? AND ?)"
                " AND NOT EXISTS"
                " (SELECT 1 FROM temp.gc_marks m WHERE m.content_hash = b.content_hash)",
                (*size_of, *due),
            )
        ]
        self._blobs.sweep(going)
        self._database.execute_many("DELETE FROM gc_candidates WHERE content_hash = ?", [(key,) for key in going])
        return Garbage(len(going), sum(size_of[key] for key in going))

    def _mark_late(self, reads_max: int) -> None:
        for _ in self._mark_late_roots(reads_max):
            pass

    def _mark_late_roots(self, reads_max: int | None) -> Iterator[None]:
        """Follow the roots that came since ``mark`` began, and those that could not be followed then."""
        rows = self._database.query("SELECT cid FROM gc_new_roots")
        late = [Cid.from_bytes(row[0]) for row in rows]
        yield from self._reached.follow(late, Depth.LINKS, reads_max)
        yield from self._reached.follow(self._live_roots(), Depth.STATE, reads_max)
        yield from self._reached.follow_what_came(reads_max)
        self._database.execute_many("DELETE FROM gc_new_roots WHERE cid = ?", [(cid.to_bytes(),) for cid in late])

    def _due(self, now_ms: int, grace_ms: int) -> tuple[int, int]:
        """Candidates of this time, or between the two, may go.

        A hold that nobody renewed counts until the next ``mark``: its process may have been stopped and go on.
        """
        held = self._database.query("SELECT min(since_ms) FROM gc_holds")[0][0]
        if held is None:
            return 0, now_ms - grace_ms
        # 0 stands for what was given up at some time, perhaps after somebody had found it here under the hold.
        return 1, min(now_ms - grace_ms, int(held) - 1)

    def _foreign_bytes(self) -> int:
        usage = self._blobs.usage()
        return usage.size_bytes - usage.kept_bytes


def _enough(rows: list[tuple[int, ContentHash, int]], excess: int) -> list[tuple[int, ContentHash, int]]:
    """The first of these that together have at least ``excess`` bytes."""
    chosen = []
    for row in rows:
        if excess <= 0:
            break
        chosen.append(row)
        excess -= row[2]
    return chosen
