"""The storage role: holds everything that committed blocks link to (D9, network-storage 8.6).

It walks the links of every committed block. What this node executed is here already; what lies outside the state
(content of objects) is fetched from peers, several times if need be, and marked unavailable after that: nothing
ever waits for it.
"""

from __future__ import annotations

from typing import Any, Final

import structlog
import trio

from agent_world.distfs.links import links_in, reachable
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.fetch import BlobFetcher
from agent_world.node.ledger import Ledger
from agent_world.store.blobs import BlobStore
from agent_world.store.content import Content, ContentState, ContentTable
from agent_world.wire.cid import Cid, Codec

_log = structlog.get_logger("agent_world.storage")

COMPLETE_MAX: Final = 262_144
"""Links remembered as wholly here, so that each block's walk is as short as what it changed; about 30 MiB."""
BATCH_ITEMS: Final = 256
"""Content asked for in one go."""
IDLE_S: Final = 1.0
"""Longest pause of the loop; a commit ends it at once."""


class Puller:
    """Keeps the storage role's promise for one node."""

    def __init__(
        self, ledger: Ledger, blobs: BlobStore, table: ContentTable, fetcher: BlobFetcher, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._table = table
        self._fetcher = fetcher
        self._clock = clock
        self._complete: set[Cid] = set()
        self._walked_height = 0
        self.counters = Counters()

    def status(self) -> dict[str, Any]:
        """For ``node status``."""
        counts = self._table.counts()
        return {
            "walked_height": self._walked_height,
            **{state.value: counts[state].items for state in ContentState if state in counts},
            "unavailable_content": [
                {"cid": str(item.cid), "last_error": item.last_error}
                for item in self._table.list(ContentState.UNAVAILABLE, 20)
            ],
        }

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for height in range(self._walked_height + 1, self._ledger.height + 1):
                self._walk(height)
                await trio.lowlevel.checkpoint()
            due = self._table.due(self._clock.wall_ms(), BATCH_ITEMS)
            if due:
                await self._pull(due)
            else:
                await self._rest()

    async def _rest(self) -> None:
        due_ms = self._table.next_due_ms()
        pause = IDLE_S if due_ms is None else min(IDLE_S, max(0.01, (due_ms - self._clock.wall_ms()) / 1000))
        with trio.move_on_after(pause):
            await self._ledger.wait_above(self._walked_height)

    def _walk(self, height: int) -> None:
        """Note what the block at ``height`` links to and is not here."""
        wanted: list[tuple[Cid, int]] = []
        stated = self._ledger.stated_sizes(height)
        for cid, data in self._below(self._ledger.links(height)):
            if data is None:
                wanted.append((cid, stated.get(cid, 0)))
            elif cid not in self._complete and len(self._complete) < COMPLETE_MAX:
                self._complete.add(cid)
        if wanted:
            self._table.want(wanted, self._clock.wall_ms())
        if len(self._complete) >= COMPLETE_MAX:
            self._complete.clear()
        self._walked_height = height

    def _below(self, roots: tuple[Cid, ...]) -> list[tuple[Cid, bytes | None]]:
        return list(reachable(roots, self._get, skip=self._complete.__contains__))

    def _get(self, cid: Cid) -> bytes | None:
        # A raw blob has no links: knowing that it is here is enough.
        if cid.codec is Codec.RAW:
            return b"" if self._blobs.has(cid.digest) else None
        try:
            return self._blobs.get(cid.digest)
        except BlobNotFound:
            return None
        except BlobHashMismatch as error:
            self.counters.add("storage.damaged")
            _log.warning("a stored blob was damaged; it is fetched again", cid=str(cid), error=str(error))
            return None

    async def _pull(self, due: tuple[Content, ...]) -> None:
        asked = {item.cid.digest: item for item in due}
        found = await self._fetcher.fetch(asked, self._fetcher.peers())
        for digest, item in asked.items():
            problem = self._refuse(item, found.get(digest))
            if problem is None:
                self._keep(item.cid, found[digest])
            else:
                state = self._table.mark_failed(item.cid, problem, self._clock.wall_ms())
                self.counters.add(f"storage.{state.value}")

    def _refuse(self, item: Content, data: bytes | None) -> str | None:
        """Why the content cannot be kept; None if it can."""
        if data is None:
            return "no connected peer has it"
        if item.size_bytes and len(data) != item.size_bytes:
            return f"its creator stated {item.size_bytes} bytes, it has {len(data)}"
        return None

    def _keep(self, cid: Cid, data: bytes) -> None:
        self._blobs.put(data)
        self._table.mark_have([cid])
        self.counters.add("storage.pulled")
        try:
            links = links_in(cid, data)
        except DecodeError:
            self.counters.add("storage.unparsable")
            return
        missing = [(link, 0) for link in links if not self._blobs.has(link.digest)]
        if missing:
            self._table.want(missing, self._clock.wall_ms())
