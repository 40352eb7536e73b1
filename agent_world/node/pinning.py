"""Pins of a running node: content is brought here before it is pinned, and a list of pins goes in and out as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent_world.errors import DecodeError, ErrorCode, Refused, UsageError
from agent_world.node.clock import Clock
from agent_world.node.tree_fetch import TreeFetcher
from agent_world.store.blobs import LocalCasStore
from agent_world.store.pins import Pin, PinTable
from agent_world.wire.cid import Cid
from agent_world.wire.ids import TimeMs

VERSION: Final = 1
"""Of pins.json."""


class Pinning:
    """Sets and removes the pins of one node."""

    def __init__(self, table: PinTable, blobs: LocalCasStore, trees: TreeFetcher, clock: Clock) -> None:
        self._table = table
        self._blobs = blobs
        self._trees = trees
        self._clock = clock

    def new(self, name: str, cid: Cid, *, recursive: bool = True, expires_in_ms: int | None = None) -> Pin:
        """A pin from now on."""
        now_ms = self._clock.wall_ms()
        end = None if expires_in_ms is None else TimeMs(now_ms + expires_in_ms)
        return Pin(name=name, cid=cid, recursive=recursive, made_ms=TimeMs(now_ms), expires_ms=end)

    def keep(self, cid: Cid) -> None:
        """Pin what was just put here under its CID."""
        self.set(str(cid), cid)

    def set(self, name: str, cid: Cid) -> None:
        """Pin what is here, in place of a pin of that name; raises UsageError."""
        self._table.put(self.new(name, cid))

    async def pin(self, pin: Pin, timeout_s: float) -> int:
        """Fetch what is missing, then pin; how many blobs were fetched.

        Raises Refused (ERR_NOT_AVAILABLE) for content that is not here and that nobody gives in time; UsageError.
        """
        with self._blobs.hold():
            brought = await self._trees.bring(pin.cid, timeout_s, recursive=pin.recursive)
            if not brought.is_whole:
                raise Refused(
                    ErrorCode.NOT_AVAILABLE,
                    f"{brought.fetched} blobs were fetched, and not all within {timeout_s:.0f} s; ask again to go on",
                )
            self._table.put(pin)
        return brought.fetched

    def unpin(self, name: str) -> Pin:
        """Remove a pin; its content goes with a later collection. Raises Refused if there is none of that name."""
        found = self._table.get(name)
        if found is None:
            raise Refused(ErrorCode.NOT_FOUND, f"no pin is named {name!r}")
        self._table.remove(name)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """All pins for people, and for pins.json."""
        return [
            {
                "name": pin.name,
                "cid": str(pin.cid),
                "recursive": pin.recursive,
                "made_ms": pin.made_ms,
                "expires_ms": pin.expires_ms,
                "is_here": self._blobs.has(pin.cid.digest),
            }
            for pin in self._table.iterate()
        ]

    def take_in(self, found: Any) -> int:
        """Set all pins of a pins.json or, with the first that is none, nothing; how many. Raises UsageError."""
        if not isinstance(found, Mapping) or found.get("version") != VERSION or not isinstance(found.get("pins"), list):
            raise UsageError(f'pins.json: an object with "version": {VERSION} and a list "pins" is expected')
        self._table.put_all(_pins(found["pins"]))
        return len(found["pins"])


def _pins(rows: Sequence[Any]) -> list[Pin]:
    pins = []
    for number, row in enumerate(rows):
        try:
            name, recursive = row["name"], row.get("recursive", True)
            made_ms, expires_ms = row.get("made_ms", 0), row.get("expires_ms")
            if not isinstance(name, str) or type(recursive) is not bool or type(made_ms) is not int:
                raise TypeError
            if expires_ms is not None and type(expires_ms) is not int:
                raise TypeError
            cid = Cid.parse(row["cid"])
        except (KeyError, TypeError, AttributeError, DecodeError):
            raise UsageError(f"pins.json: pins[{number}] needs a name, a cid, and times in ms") from None
        end = None if expires_ms is None else TimeMs(expires_ms)
        pins.append(Pin(name=name, cid=cid, recursive=recursive, made_ms=TimeMs(made_ms), expires_ms=end))
    return pins
