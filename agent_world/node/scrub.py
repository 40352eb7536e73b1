"""Reads every stored blob again and again, slowly, so that damage is found while a peer still has the content (D9).

A damaged blob goes to quarantine as whenever one is read, and is fetched again. What nobody gave is remembered over
restarts and tried again; so is what ``blob verify`` finds without being asked to heal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import attrs
import structlog
import trio

from agent_world.config import StorageConfig
from agent_world.errors import BlobHashMismatch, BlobNotFound, HomeError
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.heal import Healer
from agent_world.store.blob_listing import BlobListing
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from agent_world.store.scrub import ScrubTable
from agent_world.wire.cid import ContentHash

_log = structlog.get_logger("agent_world.storage")

START_S: Final = 30.0
"""A node that starts has other things to read first."""
RETRY_S: Final = 600.0
"""Between two tries to get back what is lost."""
RETRY_MAX: Final = 64
"""Lost blobs tried at a time."""
TRIES_MAX: Final = 144
"""After so many, a day of them, a lost blob is given up: it may be content that nobody keeps any more."""
PAGE_BLOBS: Final = 256
"""Blobs between two notes of the place; after a crash they are read again."""
BLOB_BYTES_MIN: Final = 16 * 1024
"""A blob counts for at least so many bytes: to look one up costs as much as to read that."""
HEAL_MAX_S: Final = 30.0
"""Longest wait for one blob; it is tried again later."""
OWED_S: Final = 0.05
"""Shortest pause; smaller ones are put together."""


class Verdict(StrEnum):
    """What was found of one blob, and what became of it."""

    WHOLE = "whole"
    ABSENT = "absent"
    """Not stored here."""
    DAMAGED = "damaged"
    """In quarantine, or its file was gone; remembered as lost."""
    HEALED = "healed"
    """Absent or damaged, and fetched again."""
    UNREADABLE = "unreadable"
    """The disk gave no bytes; the blob stays as it is."""


@attrs.frozen(slots=True)
class Checked:
    """One blob that was looked at."""

    verdict: Verdict
    data: bytes = b""
    """Its bytes if it is whole or healed."""


class Scrubber:
    """One node's reading of its own blobs."""

    def __init__(self, home: Home, blobs: LocalCasStore, healer: Healer, config: StorageConfig, clock: Clock) -> None:
        self._blobs = blobs
        self._healer = healer
        self._config = config
        self._clock = clock
        self._table = ScrubTable(home)
        self.listing = BlobListing(home)
        self.counters = Counters()

    async def run(self) -> None:
        """Until cancelled. With a rate of 0 it reads nothing, and only looks after what is known to be lost."""
        await self._pause(START_S)
        await self._pause(self._rest_s())
        while True:
            if self._config.scrub_bytes_per_s > 0:
                await self.read_all()
            await self._pause(self._config.scrub_pause_s)

    async def _pause(self, pause_s: float) -> None:
        wake = trio.current_time() + pause_s
        while (left := wake - trio.current_time()) > 0:
            await trio.sleep(min(RETRY_S, left))
            await self.retry_lost()

    def _rest_s(self) -> float:
        """Seconds of the pause that a restart has cut short; at most the pause, whatever the wall clock says."""
        place = self._table.place()
        if place.last_hash is not None or place.ended_ms is None:
            return 0.0
        pause_s = self._config.scrub_pause_s
        return min(pause_s, max(0.0, pause_s - (self._clock.wall_ms() - place.ended_ms) / 1000))

    async def read_all(self) -> None:
        """From the place where the last reading was broken off to the last blob, at the configured rate."""
        owed_s = 0.0
        while page := self.listing.page(self._table.place().last_hash, PAGE_BLOBS):
            for blob in page:
                await self.check(blob.content_hash, heal=True, was_here=True)
                owed_s += max(blob.size_bytes, BLOB_BYTES_MIN) / self._config.scrub_bytes_per_s
                if owed_s >= OWED_S:
                    await trio.sleep(owed_s)
                    owed_s = 0.0
            self._table.move(page[-1].content_hash)
        self._table.end_pass(self._clock.wall_ms())
        self.counters.add("scrub.passes")

    async def check(self, content: ContentHash, *, heal: bool, was_here: bool = False) -> Checked:
        """Read one blob; with ``heal`` what is damaged is fetched again, and so is what is absent.

        ``was_here``: a blob that is absent was removed meanwhile, and nobody wants it back.
        """
        await trio.lowlevel.checkpoint()
        self.counters.add("scrub.checked")
        if not self._blobs.has(content):
            if was_here or not heal:
                return Checked(Verdict.ABSENT)
            return await self._heal(content, Verdict.ABSENT)
        try:
            data = self._blobs.get(content)
        except (BlobNotFound, BlobHashMismatch) as error:
            self.counters.add("scrub.damaged")
            _log.warning("a stored blob is damaged", content_hash=content.hex(), problem=str(error))
            self._remember(content)
            return await self._heal(content, Verdict.DAMAGED) if heal else Checked(Verdict.DAMAGED)
        except HomeError as error:
            self.counters.add("scrub.unreadable")
            _log.error("a stored blob cannot be read; look at the disk", content_hash=content.hex(), problem=str(error))
            return Checked(Verdict.UNREADABLE)
        self.counters.add("scrub.bytes", len(data))
        return Checked(Verdict.WHOLE, data)

    def lost(self, content: ContentHash) -> None:
        """Somebody else has found this blob damaged: it is fetched again soon, and then now and then."""
        self._remember(content)
        self._healer.lost(content)

    def _remember(self, content: ContentHash) -> None:
        if not self._table.add_lost(content, self._clock.wall_ms()):
            self.counters.add("scrub.not_remembered")

    async def _heal(self, content: ContentHash, otherwise: Verdict) -> Checked:
        data = await self._tried(content)
        if data is None:
            self.counters.add("scrub.not_healed")
            return Checked(otherwise)
        self._table.forget([content])
        self.counters.add("scrub.healed")
        return Checked(Verdict.HEALED, data)

    async def _tried(self, content: ContentHash) -> bytes | None:
        """The bytes once they are here and whole; None if that was in vain this time."""
        try:
            with trio.move_on_after(HEAL_MAX_S):
                if await self._healer.heal(content):
                    return self._blobs.get(content)
        except (BlobNotFound, BlobHashMismatch, HomeError) as error:
            # A disk that is full or breaks must not end the node: what it cannot keep stays on the list.
            self.counters.add("scrub.not_stored")
            _log.error("a damaged blob cannot be stored again", content_hash=content.hex(), problem=str(error))
        return None

    async def retry_lost(self) -> None:
        """Try once more to get back some of what was damaged."""
        for content in self._table.lost(RETRY_MAX):
            if await self._tried(content) is not None:
                self._table.forget([content])
                self.counters.add("scrub.healed")
            elif self._table.tried(content) >= TRIES_MAX:
                self._table.forget([content])
                self.counters.add("scrub.given_up")
                _log.error("a damaged blob is given up: no peer had it in all tries", content_hash=content.hex())

    def status(self) -> dict[str, Any]:
        """Place and rate; ``at`` is the hash up to which this pass has read."""
        place = self._table.place()
        return {
            "at": place.last_hash,
            "passes": place.passes,
            "last_pass_ended_ms": place.ended_ms,
            "lost": self._table.lost_count(),
            "bytes_per_s": self._config.scrub_bytes_per_s,
        }
