"""Named pins: content that stays until somebody unpins it, or until a date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from agent_world.errors import DecodeError, HomeError, UsageError
from agent_world.store.database import Row
from agent_world.store.home import Home
from agent_world.wire.cid import Cid
from agent_world.wire.ids import TimeMs

NAME_BYTES_MAX: Final = 256
_PAGE_ROWS: Final = 256


@attrs.frozen(slots=True, kw_only=True)
class Pin:
    """One name and the content that it keeps."""

    name: str
    cid: Cid
    recursive: bool = True
    """Whether all that the content links to is kept too."""
    made_ms: TimeMs
    expires_ms: TimeMs | None = None
    """From then on it keeps nothing; None: it never ends."""


class PinTable:
    """The pins of one home. Times are the wall clock's, since they outlive the process."""

    def __init__(self, home: Home) -> None:
        self._database = home.database

    def put(self, pin: Pin) -> None:
        """Set a pin, in the place of one of the same name; raises UsageError for a name that is none."""
        self.put_all((pin,))

    def put_all(self, pins: Iterable[Pin]) -> None:
        """Set all or none."""
        rows = []
        for pin in pins:
            if not pin.name.isprintable() or not 0 < len(pin.name.encode()) <= NAME_BYTES_MAX:
                raise UsageError(f"a pin's name has 1 to {NAME_BYTES_MAX} bytes, all of them printable")
            rows.append((pin.name, pin.cid.to_bytes(), int(pin.recursive), pin.made_ms, pin.expires_ms))
        with self._database.transaction():
            self._database.execute_many("INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?, ?)", rows)

    def remove(self, name: str) -> bool:
        """Whether there was a pin of that name."""
        with self._database.transaction():
            return self._database.execute("DELETE FROM pins WHERE name = ?", (name,)) == 1

    def get(self, name: str) -> Pin | None:
        """The pin of that name, expired or not."""
        rows = self._database.query(f"SELECT {_COLUMNS} FROM pins WHERE name = ?", (name,))
        return _pin(rows[0]) if rows else None

    def iterate(self, after: str = "") -> Iterator[Pin]:
        """All pins with names above ``after``, ascending; read in pages, so they may change meanwhile."""
        while True:
            rows = self._database.query(
                f"SELECT {_COLUMNS} FROM pins WHERE name > ? ORDER BY name LIMIT ?", (after, _PAGE_ROWS)
            )
            yield from map(_pin, rows)
            if len(rows) < _PAGE_ROWS:
                return
            after = rows[-1][0]

    def expire(self, now_ms: int) -> int:
        """Remove the pins whose end has come; returns how many."""
        with self._database.transaction():
            return self._database.execute("DELETE FROM pins WHERE expires_ms <= ?", (now_ms,))


_COLUMNS: Final = "name, cid, recursive, made_ms, expires_ms"


def _pin(row: Row) -> Pin:
    """Raises HomeError for a damaged row."""
    name, cid, recursive, made_ms, expires_ms = row
    try:
        return Pin(
            name=name, cid=Cid.from_bytes(cid), recursive=bool(recursive), made_ms=made_ms, expires_ms=expires_ms
        )
    except (DecodeError, ValueError, TypeError) as error:
        raise HomeError(f"the table of pins is damaged: {error}; restore the home from a copy") from None
