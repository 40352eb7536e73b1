"""Snapshots that this node hands over (D6): planned once a height, their packs made again from the store when asked.

Nothing is stored twice: a plan remembers the hashes of a pack's nodes, 32 bytes each.
"""

from __future__ import annotations

from typing import Final

import trio

from agent_world.crypto.hashing import content_hash
from agent_world.errors import BlobHashMismatch, BlobNotFound, ErrorCode, Refused
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.store.blobs import LocalCasStore
from agent_world.wire import record
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import U64
from agent_world.wire.limits import SNAPSHOT_CHUNKS_MAX
from agent_world.wire.snapshot import SnapshotManifest, StateChunkRef
from agent_world.world.snapshot import PackPlan, encode_pack, plan_packs

PLANS_MAX: Final = 4
"""Heights planned at a time; the one planned first is dropped. Half a percent of the states' size."""
FRESH_HEIGHTS: Final = 64
"""A request that names no height gets a plan that is at most this old: planning walks the whole state."""
PAUSE_BLOBS: Final = 64
"""State blobs read before other tasks get a turn; about 2 ms."""


class Snapshots:
    """Satisfies ``handlers.state.SnapshotView``."""

    def __init__(self, ledger: Ledger, blobs: LocalCasStore) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._manifests: dict[int, SnapshotManifest] = {}
        self._packs: dict[int, dict[ContentHash, PackPlan]] = {}
        self._kept: int | None = None
        self._by_hash: dict[ContentHash, int] = {}
        """Hash of a manifest -> its height."""
        self._one_at_a_time = trio.Lock()
        self.counters = Counters()

    async def snapshot(self, height: int | None) -> SnapshotManifest | None:
        """Of the state after ``height``, None for a recent one; None if it is not held here.

        Raises Refused (ERR_NOT_AVAILABLE) for a state that is damaged here or above SNAPSHOT_CHUNKS_MAX.
        """
        async with self._one_at_a_time:
            if height is None:
                fresh = [known for known in self._manifests if known > self._ledger.height - FRESH_HEIGHTS]
                height = max(fresh, default=self._ledger.height)
            if height not in self._manifests:
                manifest = await self._plan(height)
                if manifest is None:
                    return None
                self._manifests[height] = manifest
                self._by_hash[content_hash(record.to_bytes(manifest))] = height
            return self._manifests[height]

    async def keep(self, height: int) -> SnapshotManifest | None:
        """As ``snapshot``; this plan is not dropped for others, the one kept before may be."""
        self._kept = height
        return await self.snapshot(height)

    def find(self, content: ContentHash) -> bytes | None:
        """The bytes of a planned pack or of a manifest; None for anything else.

        Raises BlobHashMismatch for a damaged node.
        """
        if content in self._by_hash:
            return record.to_bytes(self._manifests[self._by_hash[content]])
        for packs in self._packs.values():
            plan = packs.get(content)
            if plan is not None:
                nodes = self._blobs.get_many(plan.nodes)
                if len(nodes) != len(plan.nodes):
                    raise BlobHashMismatch(f"a node of pack {content.hex()} is damaged or gone")
                return encode_pack([nodes[digest] for digest in plan.nodes])
        return None

    async def _plan(self, height: int) -> SnapshotManifest | None:
        place = self._ledger.state_at(height)
        if place is None:
            return None
        epoch, state_root = place
        packs: list[PackPlan] = []
        try:
            for number, plan in enumerate(plan_packs(state_root, self._blobs.get)):
                if plan is not None:
                    packs.append(plan)
                if number % PAUSE_BLOBS == 0:
                    await trio.lowlevel.checkpoint()
        except BlobNotFound:
            # A state below the height this home was started from, or one that was pruned.
            if height < self._ledger.height:
                return None
            raise self._refused("is damaged here") from None
        except BlobHashMismatch:
            raise self._refused("is damaged here") from None
        if len(packs) > SNAPSHOT_CHUNKS_MAX:
            raise self._refused("is too large for one manifest")
        self._remember(height, packs)
        chunks = tuple(StateChunkRef(content=plan.content, size_bytes=U64(plan.size_bytes)) for plan in packs)
        return SnapshotManifest(
            world_id=self._ledger.world_id, epoch=U64(epoch), height=U64(height), state_root=state_root, chunks=chunks
        )

    def _refused(self, why: str) -> Refused:
        self.counters.add("snapshot.refused")
        return Refused(ErrorCode.NOT_AVAILABLE, f"the state {why}; ask elsewhere")

    def _remember(self, height: int, packs: list[PackPlan]) -> None:
        self.counters.add("snapshot.planned")
        self._packs[height] = {plan.content.digest: plan for plan in packs}
        while len(self._packs) > PLANS_MAX:
            oldest = next(planned for planned in self._packs if planned != self._kept)
            del self._packs[oldest]
            self._manifests.pop(oldest, None)
            self._by_hash = {content: known for content, known in self._by_hash.items() if known != oldest}
