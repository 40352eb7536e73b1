"""Keeps blobs from being collected while the root that will reach them is not there yet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from agent_world.errors import StoreNotWritable
from agent_world.store.database import Database

HOLD_S: Final = 3_600.0
"""A hold that nobody renews ends after this: its process was killed."""


class BlobHold:
    """While it is open nothing is swept that was stored, or put again, after it began. A context manager.

    It is a row of the database, so that a collection by another process sees it.
    """

    def __init__(self, database: Database, wall_ms: Callable[[], int]) -> None:
        self._database = database
        self._wall_ms = wall_ms
        self._number: int | None = None
        self._until_ms = 0

    def __enter__(self) -> Self:
        now_ms = self._wall_ms()
        self._until_ms = now_ms + int(HOLD_S * 1000)
        with self._database.transaction():
            rows = self._database.query("SELECT coalesce(max(id), 0) + 1 FROM gc_holds")
            self._number = int(rows[0][0])
            self._database.execute("INSERT INTO gc_holds VALUES (?, ?, ?)", (self._number, now_ms, self._until_ms))
        return self

    def renew(self) -> None:
        """Still importing; costs a write once in half of HOLD_S."""
        now_ms = self._wall_ms()
        if now_ms + int(HOLD_S * 500) > self._until_ms:
            self._until_ms = now_ms + int(HOLD_S * 1000)
            with self._database.transaction():
                self._database.execute("UPDATE gc_holds SET until_ms = ? WHERE id = ?", (self._until_ms, self._number))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was stored under the hold is stored, whatever the disk says now; without this the hold ends by its time.
        with suppress(StoreNotWritable), self._database.transaction():
            self._database.execute("DELETE FROM gc_holds WHERE id = ?", (self._number,))
