"""A storage node keeps one snapshot at hand and provides it in the DHT, so that a newcomer finds it (D7).

It is announced under two names: the CID of its manifest, for whoever was told it, and the state root that it
holds, for whoever has a certified head and nothing else. Both follow from the chain, so nothing is stored: after a
restart the snapshot is planned again.
"""

from __future__ import annotations

import structlog
import trio

from agent_world.crypto.hashing import cid_of
from agent_world.errors import Refused, Unavailable
from agent_world.net.interface import DistributedDht
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.node.providing import REPUBLISH_MS, RETRY_MS
from agent_world.node.snapshots import Snapshots
from agent_world.wire import record
from agent_world.wire.cid import Cid
from agent_world.wire.snapshot import SnapshotManifest

_log = structlog.get_logger("agent_world.snapshots")


def names_of(manifest: SnapshotManifest) -> tuple[Cid, Cid]:
    """Under what a snapshot is provided: its manifest, and the state that it holds."""
    return cid_of(record.to_bytes(manifest)), manifest.state_root


class SnapshotOffer:
    """One node's; every ``every_heights`` the next snapshot takes the place of the last, the same at every node."""

    def __init__(
        self, dht: DistributedDht, ledger: Ledger, snapshots: Snapshots, clock: Clock, every_heights: int
    ) -> None:
        self._dht = dht
        self._ledger = ledger
        self._snapshots = snapshots
        self._clock = clock
        self._every = every_heights
        self._height = 0
        self._due_ms: dict[Cid, int] = {}
        self.counters = Counters()

    @property
    def height(self) -> int:
        """Of the snapshot that is offered; 0 for none."""
        return self._height

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            newest = self._ledger.height // self._every * self._every
            if newest > self._height:
                await self._take(newest)
            for cid, due_ms in list(self._due_ms.items()):
                if due_ms <= self._clock.now_ms():
                    await self._provide(cid)
            left_s = (min(self._due_ms.values(), default=self._clock.now_ms() + RETRY_MS) - self._clock.now_ms()) / 1000
            with trio.move_on_after(max(0.05, left_s)):
                await self._ledger.wait_above(newest + self._every - 1)

    async def _take(self, height: int) -> None:
        self._height = height  # also when it fails: the next one is due in its time
        try:
            manifest = await self._snapshots.keep(height)
        except Refused as error:
            manifest = None
            _log.warning("no snapshot can be offered", height=height, error=str(error))
        for cid in self._due_ms:
            self._dht.withdraw(cid)
        self._due_ms = {} if manifest is None else dict.fromkeys(names_of(manifest), self._clock.now_ms())
        self.counters.add("snapshot.offered" if manifest is not None else "snapshot.not_offered")

    async def _provide(self, cid: Cid) -> None:
        try:
            await self._dht.provide(cid)
        except Unavailable:
            self.counters.add("dht.provide_failed")
            self._due_ms[cid] = self._clock.now_ms() + RETRY_MS
        else:
            self.counters.add("dht.snapshot_provided")
            self._due_ms[cid] = self._clock.now_ms() + REPUBLISH_MS
