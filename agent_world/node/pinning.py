"""Pins of a running node: content is brought here before it is pinned, and a list of pins goes in and out as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio

from agent_world.distfs.links import links_in
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError, ErrorCode, Refused, UsageError
from agent_world.node.clock import Clock
from agent_world.node.sources import Sources
from agent_world.store.blobs import LocalCasStore
from agent_world.store.pins import Pin, PinTable
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import TimeMs

BATCH: Final = 64
"""Missing blobs asked for at a time; at most 64 MiB in memory."""
RETRY_S: Final = 0.5
"""Pause before what nobody gave is asked for again: a peer that has it may be about to come."""
VERSION: Final = 1
"""Of pins.json."""


class Pinning:
    """Sets and removes the pins of one node."""

    def __init__(self, table: PinTable, blobs: LocalCasStore, sources: Sources, clock: Clock) -> None:
        self._table = table
        self._blobs = blobs
        self._sources = sources
        self._clock = clock

    def new(self, name: str, cid: Cid, *, recursive: bool = True, expires_in_ms: int | None = None) -> Pin:
        """A pin from now on."""
        now_ms = self._clock.wall_ms()
        end = None if expires_in_ms is None else TimeMs(now_ms + expires_in_ms)
        return Pin(name=name, cid=cid, recursive=recursive, made_ms=TimeMs(now_ms), expires_ms=end)

    def keep(self, cid: Cid) -> str:
        """Pin what was just put here under its CID, in place of such a pin; its name."""
        self._table.put(self.new(str(cid), cid))
        return str(cid)

    async def pin(self, pin: Pin, timeout_s: float) -> int:
        """Fetch what is missing, then pin; how many blobs were fetched.

        Raises Refused (ERR_NOT_AVAILABLE) for content that is not here and that nobody gives in time; UsageError.
        """
        until_ms = self._clock.now_ms() + int(timeout_s * 1000)
        with self._blobs.hold():
            fetched = await self._bring(pin.cid, until_ms, recursive=pin.recursive)
            self._table.put(pin)
        return fetched

    async def _bring(self, cid: Cid, until_ms: int, *, recursive: bool) -> int:
        fetched, seen, stack = 0, {cid}, [cid]
        while stack:
            group, stack = stack[-BATCH:], stack[:-BATCH]
            here = self._blobs.has_many([item.digest for item in group])
            missing = [item.digest for item in group if item.digest not in here]
            while missing:
                found = await self._sources.fetch(missing)
                self._blobs.put_many(found.values())
                fetched += len(found)
                missing = [digest for digest in missing if digest not in found]
                if missing and self._clock.now_ms() >= until_ms:
                    raise Refused(ErrorCode.NOT_AVAILABLE, f"{missing[0].hex()} is not here and no peer gave it")
                await trio.sleep(RETRY_S if missing else 0)
            for item in group if recursive else ():
                new = [link for link in self._links(item) if link not in seen]
                seen.update(new)
                stack += new
            await trio.lowlevel.checkpoint()
        return fetched

    def _links(self, cid: Cid) -> list[Cid]:
        if cid.codec is Codec.RAW:
            return []
        try:
            return links_in(cid, self._blobs.get(cid.digest))
        except (BlobNotFound, BlobHashMismatch) as error:
            raise Refused(ErrorCode.NOT_AVAILABLE, f"{cid} is damaged here: {error}") from None
        except DecodeError:
            return []  # anybody may call any bytes dag-cbor: those that are not link to nothing

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
