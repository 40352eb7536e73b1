"""Announces in the DHT what this node serves: paced, again before it runs out, and over restarts.

What is announced are roots only: content that the world names, and the genesis for a node that keeps the chain.
Chunks and single blocks are found through them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import structlog
import trio

from agent_world.errors import BlobHashMismatch, BlobNotFound, Unavailable
from agent_world.net.interface import DistributedDht
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.store.provided import ProvidedRoots
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import PeerId

_log = structlog.get_logger("agent_world.providing")

NEVER_MS: Final = 2**63 - 1
"""Later than any clock; the largest number that the database holds."""
REPUBLISH_MS: Final = 6 * 3_600_000
"""Between two announcements of one content; holders keep it for 48 hours."""
RETRY_MS: Final = 30_000
"""After nobody took an announcement, or while the content is not here."""
BEHIND_MS: Final = 3_600_000
"""Announcements overdue by more are worth a warning, which is repeated no more often than this."""
BATCH: Final = 64
IDLE_S: Final = 5.0
"""Longest pause of the loop; a commit ends it."""


class ProviderCache:
    """What is announced from here. ``has`` says whether this node could serve a content now."""

    def __init__(
        self,
        dht: DistributedDht,
        roots: ProvidedRoots,
        has: Callable[[Cid], bool],
        own_id: PeerId,
        republish_interval_ms: int = REPUBLISH_MS,
    ) -> None:
        """An interval of 0 announces everything once and never again."""
        self._dht = dht
        self._roots = roots
        self._has = has
        self._own_id = own_id
        self._interval_ms = republish_interval_ms
        self.counters = Counters()

    def register_local_content(self, cids: Iterable[Cid], now_ms: int) -> int:
        """Announce from the next ``republish_local`` on; returns how many are new."""
        return self._roots.register(cids, now_ms)

    def withdraw(self, cid: Cid) -> None:
        """Announce it no more; records at others run out by themselves."""
        self._roots.withdraw(cid)
        self._dht.withdraw(cid)

    async def query_providers(self, content: Cid, *, timeout_s: float) -> Sequence[PeerId]:
        """Others who provide, and this node if it does; raises Unavailable if nobody answered and it does not."""
        own = {self._own_id} if self._roots.has(content) and self._has(content) else set()
        try:
            return sorted(own.union(await self._dht.find_providers(content, timeout_s=timeout_s)))
        except Unavailable:
            if not own:
                raise
            return sorted(own)

    async def republish_local(self, now_ms: int) -> int:
        """Announce what is due, a batch at most; returns how many were taken.

        What is not here is not announced, and is looked at again later. When nobody answers the rest waits too.
        """
        published = 0
        for cid in self._roots.due(now_ms, BATCH):
            if not self._has(cid):
                self._dht.withdraw(cid)
                self.counters.add("dht.provide_absent")
                self._roots.postpone(cid, now_ms + RETRY_MS)
                continue
            try:
                await self._dht.provide(cid)
            except Unavailable:
                self.counters.add("dht.provide_failed")
                self._roots.postpone(cid, now_ms + RETRY_MS)
                break
            published += 1
            self.counters.add("dht.provided")
            self._roots.postpone(cid, now_ms + self._interval_ms if self._interval_ms else NEVER_MS)
        return published


class Providing:
    """Runs a ``ProviderCache`` for one node; ``walks`` says whether it stores what the world names."""

    def __init__(
        self,
        dht: DistributedDht,
        ledger: Ledger,
        roots: ProvidedRoots,
        has: Callable[[Cid], bool],
        clock: Clock,
        own_id: PeerId,
    ) -> None:
        self._ledger = ledger
        self._roots = roots
        self._clock = clock
        self._has = has
        self._warned_ms = -BEHIND_MS
        self.walks = False
        self.cache = ProviderCache(dht, roots, self._serves, own_id)

    @property
    def genesis(self) -> Cid:
        """Its providers are the nodes that keep the chain."""
        return genesis_root(self._ledger)

    def status(self) -> dict[str, Any]:
        """For ``node status``."""
        counts = self._roots.counts(self._clock.wall_ms())
        return {"provided": counts.roots, "provided_due": counts.due, "provided_refused": self._roots.refused}

    async def run(self) -> None:
        """Until cancelled."""
        self._roots.register([self.genesis], self._clock.wall_ms())
        while True:
            is_whole = await self._walk() if self.walks else True
            failed = self.cache.counters["dht.provide_failed"]
            await self.cache.republish_local(self._clock.wall_ms())
            self._warn_if_behind()
            if is_whole and self.cache.counters["dht.provide_failed"] == failed:
                await self._rest()
            else:
                await trio.sleep(IDLE_S)

    def _serves(self, cid: Cid) -> bool:
        return cid == self.genesis or self._has(cid)

    async def _walk(self) -> bool:
        """Note what new blocks name; False if a journal is damaged."""
        for height in range(self._roots.walked_height + 1, self._ledger.height + 1):
            try:
                named = list(self._ledger.stated_sizes(height))
            except (BlobNotFound, BlobHashMismatch) as error:
                # The storage role fetches a damaged journal again; this height is walked once it is whole.
                self.cache.counters.add("dht.walk_damaged")
                _log.warning("a journal is damaged; its content is announced later", height=height, error=str(error))
                return False
            self._roots.walked(height, named, self._clock.wall_ms())
            await trio.lowlevel.checkpoint()
        return True

    def _warn_if_behind(self) -> None:
        now_ms = self._clock.wall_ms()
        counts = self._roots.counts(now_ms)
        overdue_ms = 0 if counts.next_due_ms is None else now_ms - counts.next_due_ms
        if overdue_ms > BEHIND_MS and now_ms - self._warned_ms >= BEHIND_MS:
            self._warned_ms = now_ms
            self.cache.counters.add("dht.provide_behind")
            _log.warning("announcing is behind", due=counts.due, of=counts.roots, overdue_s=overdue_ms // 1000)

    async def _rest(self) -> None:
        counts = self._roots.counts(self._clock.wall_ms())
        left_s = IDLE_S if counts.next_due_ms is None else (counts.next_due_ms - self._clock.wall_ms()) / 1000
        with trio.move_on_after(min(IDLE_S, max(0.05, left_s))):
            if self.walks:
                await self._ledger.wait_above(self._roots.walked_height)
            else:
                await trio.sleep_forever()


def genesis_root(ledger: Ledger) -> Cid:
    """What all nodes that keep the chain provide."""
    return Cid(Codec.DAG_CBOR, ContentHash(ledger.genesis_hash))
