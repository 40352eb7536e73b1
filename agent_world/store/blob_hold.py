"""Keeps blobs from being collected while the root that will reach them is not there yet."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from agent_world.errors import StoreNotWritable, Unavailable
from agent_world.store.database import Database

HOLD_S: Final = 3_600.0
"""A hold that nobody renews ends after this: its process was killed."""


class BlobHold:
    """While it is open nothing is swept that was stored, or put again, after it began. A context manager.

    It is a row of the database, so that a collection by another process sees it. One that such a collection has ended,
    since nobody renewed it in time, raises Unavailable at its end.
    """

    def __init__(self, database: Database, wall_ms: Callable[[], int], open_holds: set[BlobHold]) -> None:
        """``open_holds`` are those of this process, to which it belongs while it is open."""
        self._database = database
        self._wall_ms = wall_ms
        self._open_holds = open_holds
        # By chance, so that it is not that of a hold which has ended by its time, and whose process goes on.
        self._number = secrets.randbits(62)
        self._until_ms = 0

    def __enter__(self) -> Self:
        now_ms = self._wall_ms()
        self._until_ms = now_ms + int(HOLD_S * 1000)
        with self._database.transaction():
            self._database.execute("INSERT INTO gc_holds VALUES (?, ?, ?)", (self._number, now_ms, self._until_ms))
        self._open_holds.add(self)
        return self

    def renew(self) -> None:
        """Still importing; costs a write once in half of HOLD_S. Raises Unavailable if the hold has ended."""
        now_ms = self._wall_ms()
        if now_ms + int(HOLD_S * 500) > self._until_ms:
            until_ms = now_ms + int(HOLD_S * 1000)
            with self._database.transaction():
                changed = self._database.execute(
                    "UPDATE gc_holds SET until_ms = ? WHERE id = ?", (until_ms, self._number)
                )
            if not changed:
                raise _ended()
            self._until_ms = until_ms

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_holds.discard(self)
        # What was stored under the hold is stored, whatever the disk says now; without this the hold ends by its time.
        with suppress(StoreNotWritable):
            with self._database.transaction():
                was_there = self._database.execute("DELETE FROM gc_holds WHERE id = ?", (self._number,))
            if not was_there and kind is None:
                raise _ended()


def _ended() -> Unavailable:
    return Unavailable(
        f"this took more than {HOLD_S:.0f} s without a sign of life, and another program has collected garbage"
        " meanwhile: some of what was stored may be gone; do it again"
    )
