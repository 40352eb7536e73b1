"""Files that the storage role fetches: content with a manifest, until every chunk is here.

A file takes as long as it is large, so files have tasks of their own and other content goes on meanwhile. What has
arrived is kept over restarts and failed tries; the table says how much it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import structlog
import trio

from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError, Refused, StoreFull
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.large import LargeContent
from agent_world.store.content import Content, ContentState, ContentTable
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import MIB

_log = structlog.get_logger("agent_world.storage")

FILES_AT_ONCE: Final = 2
"""Files fetched at the same time; one fills a link, and two keep a small one from waiting for a huge one."""
IDLE_S: Final = 1.0
"""Longest pause before a task looks for the next file; news ends it at once."""
PROGRESS_BYTES: Final = 64 * MIB
"""Progress is noted in the table this often; after a crash it is counted anew from what is here."""
SHOWN_MAX: Final = 20
"""Files in the status."""


Elsewhere = Callable[[Sequence[ContentHash]], AbstractAsyncContextManager[list[PeerId]]]
"""Providers that the DHT names for content, connected while the block lasts."""


class FilePuller:
    """Fetches the files that the table names, a few at a time."""

    def __init__(
        self,
        table: ContentTable,
        large: LargeContent,
        peers: Callable[[], Sequence[PeerId]],
        elsewhere: Elsewhere,
        clock: Clock,
    ) -> None:
        self._table = table
        self._large = large
        self._peers = peers
        self._elsewhere = elsewhere
        self._clock = clock
        self._active: dict[Cid, int] = {}
        """Being fetched now, with the bytes that are here."""
        self._news = trio.Event()
        self.kept: Callable[[Cid], None] = lambda _cid: None
        """Told of every file of which the last chunk has come."""
        self.counters = Counters()

    def wake(self) -> None:
        """There is a file to be fetched."""
        self._news.set()
        self._news = trio.Event()

    def status(self) -> list[dict[str, Any]]:
        """Progress of the files that are being fetched or wait for their next try."""
        return [
            {
                "cid": str(item.cid),
                "bytes_here": max(item.here_bytes, self._active.get(item.cid, 0)),
                "bytes": item.size_bytes,
                "last_error": item.last_error,
            }
            for item in self._table.list(ContentState.FETCHING, SHOWN_MAX)
        ]

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(FILES_AT_ONCE):
                nursery.start_soon(self._work)

    async def is_whole(self, cid: Cid, size_bytes: int) -> bool:
        """Whether all chunks of a file are here."""
        try:
            return await self._large.here(cid) == size_bytes
        except (BlobNotFound, BlobHashMismatch, DecodeError):
            return False  # what is damaged was set aside by the store and is absent from now on

    async def _work(self) -> None:
        while True:
            item = self._next()
            if item is None:
                with trio.move_on_after(IDLE_S):
                    await self._news.wait()
                continue
            self._active[item.cid] = item.here_bytes
            try:
                await self._pull(item)
            finally:
                del self._active[item.cid]

    def _next(self) -> Content | None:
        due = self._table.due(self._clock.wall_ms(), FILES_AT_ONCE, ContentState.FETCHING)
        return next((item for item in due if item.cid not in self._active), None)

    async def _pull(self, item: Content) -> None:
        problem = await self._try(item)
        if problem is None:
            self._table.mark_have([item.cid])
            self.kept(item.cid)
            self.counters.add("storage.files")
            return
        # A broken file shows no progress, so that its tries come to an end.
        state = self._table.mark_failed(item.cid, problem, self._clock.wall_ms())
        self.counters.add("storage.files_partial")
        self.counters.add(f"storage.{state.value}")

    async def _try(self, item: Content) -> str | None:
        """Fetch what is missing; why it is still not all, or None."""
        try:
            self._note(item.cid, await self._large.here(item.cid))
            noted = self._active[item.cid]

            def stored(size: int) -> None:
                nonlocal noted
                self.counters.add("storage.pulled_bytes", size)
                self._active[item.cid] = min(self._active[item.cid] + size, item.size_bytes)
                if self._active[item.cid] - noted >= PROGRESS_BYTES:
                    noted = self._active[item.cid]
                    self._table.mark_progress(item.cid, noted)

            pulled = await self._large.pull(item.cid, self._peers(), stored)
            if pulled.missing:  # chunks are not provided, their file is
                async with self._elsewhere([item.cid.digest]) as providers:
                    pulled = await self._large.pull(item.cid, providers, stored) if providers else pulled
            self._note(item.cid, await self._large.here(item.cid))
        except DecodeError as error:
            self.counters.add("storage.wrong_file")
            _log.warning("a file's manifest does not fit its parts", cid=str(item.cid), error=str(error))
            return f"its manifest does not fit its parts: {error}"
        except StoreFull as error:
            self.counters.add("storage.no_room")
            return str(error)
        except (Refused, BlobNotFound, BlobHashMismatch) as error:
            return f"its manifest is gone: {error}"
        if pulled.missing:
            return f"{pulled.missing} parts are not here and no connected peer gave them"
        return None

    def _note(self, cid: Cid, here_bytes: int) -> None:
        self._active[cid] = here_bytes
        self._table.mark_progress(cid, here_bytes)
