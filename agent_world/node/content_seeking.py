"""Looks beside the puller for content that no neighbour gave: with providers from the DHT, a batch at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio

from agent_world.node.counters import Counters
from agent_world.node.distributed_client import DistributedClient
from agent_world.wire.cid import Cid

WAITING_MAX: Final = 1_024
"""Contents that wait to be looked for; one more waits for its next try."""
BATCH: Final = 16
"""Looked for in one go: as many as one search looks up, each at most 1 MiB in memory."""

Deliver = Callable[[Cid, bytes], Awaitable[None]]
"""Takes content that was found, verified."""


class ContentSeeker:
    """One node's. The puller's own tries go on meanwhile; whoever is first wins."""

    def __init__(self, client: DistributedClient, deliver: Deliver) -> None:
        self._client = client
        self._deliver = deliver
        self._waiting: dict[Cid, None] = {}
        self._underway: set[Cid] = set()
        self._wanted = trio.Event()
        self.counters = Counters()

    def want(self, cids: Iterable[Cid]) -> None:
        """Look for these soon, once each however often it is said."""
        for cid in cids:
            if cid in self._underway:
                continue
            if len(self._waiting) >= WAITING_MAX and cid not in self._waiting:
                self.counters.add("storage.seek_dropped")
                continue
            self._waiting[cid] = None
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not self._waiting:
                self._wanted = trio.Event()
                await self._wanted.wait()
            batch = list(self._waiting)[:BATCH]
            for cid in batch:
                del self._waiting[cid]
            self._underway = set(batch)
            try:
                await self._seek({cid.digest: cid for cid in batch})
            finally:
                self._underway = set()

    async def _seek(self, cids: dict[bytes, Cid]) -> None:
        self.counters.add("storage.sought", len(cids))
        wanted = [cid.digest for cid in cids.values()]
        found = await self._client.fetch_far(wanted)
        self.counters.add("storage.sought_found", len(found))
        for digest, data in found.items():
            await self._deliver(cids[digest], data)
        await trio.lowlevel.checkpoint()
