"""Which content a storage node is asked for: what committed blocks say that it holds, drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from agent_world.errors import BlobHashMismatch, BlobNotFound
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.store.blob_store import BlobStore
from agent_world.sync.keepers import Keepers
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.hello import Hello
from agent_world.wire.ids import Hash32, PeerId, WorldId

HEIGHTS_TRIED: Final = 8
"""Draws of a height until one is of a block that is still here."""


class ContentDraw:
    """Of one node; also what its handler reads."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: BlobStore,
        keepers: Keepers,
        clock: Clock,
        find: Callable[[Sequence[ContentHash]], list[bytes | None]],
        *,
        settle_ms: int,
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._keepers = keepers
        self._clock = clock
        self._find = find
        self._settle_ms = settle_ms
        self.counters = Counters()

    @property
    def world_id(self) -> WorldId:
        """Of the node's world."""
        return self._ledger.world_id

    @property
    def genesis_hash(self) -> Hash32:
        """Of the node's world."""
        return self._ledger.genesis_hash

    def block_hash(self, height: int) -> Hash32 | None:
        """Hash of a committed block, of the genesis at height 0; None if it is not committed here."""
        if height == 0:
            return self._ledger.genesis_hash
        if height > self._ledger.height:
            return None
        stored = self._ledger.stored(height)
        return None if stored is None else stored.block_hash

    def read(self, content: ContentHash) -> bytes:
        """What this node can serve; raises BlobNotFound, BlobHashMismatch (after which it is being healed), OSError."""
        (found,) = self._find([content])
        if found is None:
            raise BlobNotFound(f"no blob {content.hex()} here")
        return found

    def own_copy(self, content: ContentHash) -> bytes:
        """As ``read``, from the store alone: to check others by."""
        return self._blobs.get(content)

    def content(self, target: PeerId, hello: Hello | None, random: Random) -> tuple[Cid, bool] | None:
        """Content of a block that the target says it keeps, of objects once it is old enough; None if no draw gave any.

        With it whether it is part of the chain, which every storage node has to keep.
        """
        said = self._keepers.of(target)
        low = 1 if said is None else max(1, said.from_height)
        high = self._ledger.height if hello is None else min(self._ledger.height, hello.head.height)
        for _ in range(HEIGHTS_TRIED if low <= high else 0):
            height = random.randint(low, high)
            stored = self._ledger.stored(height)
            if stored is None:
                continue
            header = stored.header
            # Not the state root: old states may be given up while their blocks are kept.
            chain = [header.action_root, header.receipts_root, header.journal_ref]
            # Who says that it has the block has stored these with it; what objects name is fetched after that.
            is_settled = header.timestamp_ms <= self._clock.wall_ms() - self._settle_ms
            chosen = random.choice([*chain, *(self._objects(height) if is_settled else ())])
            return chosen, chosen in chain
        return None

    def _objects(self, height: int) -> list[Cid]:
        """Content of objects created there, as far as this node has it: what was never to be had is nobody's fault."""
        try:
            stated = self._ledger.stated_sizes(height)
        except (BlobNotFound, BlobHashMismatch):
            self.counters.add("challenge.journal_missing")
            return []
        held = self._blobs.has_many(cid.digest for cid in stated)
        return [cid for cid in stated if cid.digest in held]
