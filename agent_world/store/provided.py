"""Which content this node announces in the DHT, and when each is due again; survives restarts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from agent_world.errors import DecodeError, HomeError
from agent_world.store.home import Home
from agent_world.wire.cid import Cid
from agent_world.wire.ids import TimeMs

ROOTS_MAX: Final = 262_144
"""Contents announced; at one a second a twelfth of them takes six hours. Further ones are refused and counted."""


@attrs.frozen(slots=True, kw_only=True)
class ProvidedCounts:
    """How the announcing goes."""

    roots: int
    due: int
    """Of them, to be announced now."""
    next_due_ms: TimeMs | None
    """When the first is due; None without any."""


class ProvidedRoots:
    """The table of one home. Times are the wall clock's."""

    def __init__(self, home: Home, roots_max: int = ROOTS_MAX) -> None:
        self._database = home.database
        self._roots_max = roots_max
        self.refused = 0
        """Contents not taken since start, because the table was full."""

    def register(self, cids: Iterable[Cid], now_ms: int) -> int:
        """Announce from now on; known ones stay as they are. Returns the new."""
        with self._database.transaction():
            room = self._roots_max - self._count()
            new = [cid.to_bytes() for cid in dict.fromkeys(cids) if not self.has(cid)]
            self.refused += max(0, len(new) - room)
            rows = [(cid, now_ms) for cid in new[: max(0, room)]]
            return self._database.execute_many("INSERT INTO provided_roots VALUES (?, ?)", rows) if rows else 0

    def has(self, cid: Cid) -> bool:
        """Whether it is announced from here."""
        return bool(self._database.query("SELECT 1 FROM provided_roots WHERE cid = ?", (cid.to_bytes(),)))

    def due(self, now_ms: int, limit: int) -> tuple[Cid, ...]:
        """Contents to announce now, longest due first."""
        rows = self._database.query(
            "SELECT cid FROM provided_roots WHERE next_due_ms <= ? ORDER BY next_due_ms, cid LIMIT ?", (now_ms, limit)
        )
        try:
            return tuple(Cid.from_bytes(row[0]) for row in rows)
        except (DecodeError, TypeError) as error:
            problem = f"the table of announced content is damaged: {error}; restore the home from a copy"
            raise HomeError(problem) from None

    def postpone(self, cid: Cid, next_due_ms: int) -> None:
        """It was announced, or could not be: again then. Unknown ones are passed over."""
        with self._database.transaction():
            self._database.execute(
                "UPDATE provided_roots SET next_due_ms = ? WHERE cid = ?", (next_due_ms, cid.to_bytes())
            )

    def withdraw(self, cid: Cid) -> bool:
        """Announce it no more; whether it was announced."""
        with self._database.transaction():
            return self._database.execute("DELETE FROM provided_roots WHERE cid = ?", (cid.to_bytes(),)) == 1

    def counts(self, now_ms: int) -> ProvidedCounts:
        """For status pages and for the pace."""
        due, first = self._database.query(
            "SELECT (SELECT count(*) FROM provided_roots WHERE next_due_ms <= ?), min(next_due_ms) FROM provided_roots",
            (now_ms,),
        )[0]
        return ProvidedCounts(roots=self._count(), due=due, next_due_ms=first)

    @property
    def walked_height(self) -> int:
        """Blocks up to this height have been searched for content to announce."""
        return int(self._database.query("SELECT height FROM provided_walk")[0][0])

    def walked(self, height: int, cids: Iterable[Cid], now_ms: int) -> int:
        """Note that ``height`` was searched, with what it named; in one transaction. Returns the new contents."""
        with self._database.transaction():
            self._database.execute("UPDATE provided_walk SET height = ? WHERE height < ?", (height, height))
            return self.register(cids, now_ms)

    def _count(self) -> int:
        return int(self._database.query("SELECT count(*) FROM provided_roots")[0][0])
