"""Gets back from peers what turns out to be damaged or lost here (D9: quarantined, refetched, counted)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog
import trio

from agent_world.errors import BlobHashMismatch, BlobNotFound, StoreFull, StoreNotReadable, StoreNotWritable
from agent_world.node.counters import Counters
from agent_world.node.distributed_client import DistributedClient
from agent_world.store.blob_store import BlobStore
from agent_world.wire.cid import ContentHash
from agent_world.world.trie import NodeMissing

_log = structlog.get_logger("agent_world.storage")
R = TypeVar("R")
Fetch = Callable[[Sequence[ContentHash]], Awaitable[dict[ContentHash, bytes]]]

NODES_MAX: Final = 64
"""State nodes fetched for one operation before it is given up; more than that is a home to be made anew."""
QUEUE_MAX: Final = 1_024
"""Damaged blobs waiting to be fetched; further ones are found again when they are next read."""


class Healer:
    """Repairs one node's blob store from its peers."""

    def __init__(self, client: DistributedClient, blobs: BlobStore) -> None:
        self._client = client
        self._blobs = blobs
        self._send, self._lost = trio.open_memory_channel[ContentHash](QUEUE_MAX)
        self._waiting: set[ContentHash] = set()
        self.counters = Counters()

    def lost(self, content: ContentHash) -> None:
        """This blob was here and is not any more: fetch it soon."""
        if content in self._waiting:
            return
        try:
            self._send.send_nowait(content)
        except trio.WouldBlock:
            self.counters.add("heal.queue_full")
        else:
            self._waiting.add(content)

    async def run(self) -> None:
        """Until cancelled."""
        async for content in self._lost:
            self._waiting.discard(content)
            if not await self.heal(content):
                _log.error("a damaged blob could not be had from any peer", content_hash=content.hex())

    async def heal(self, content: ContentHash) -> bool:
        """Whether the blob is here and whole in the end: as it was, from a neighbour, or from who the DHT names."""
        return await self._fetch(content) or await self._take(content, self._client.fetch_far)

    async def with_state(self, operation: Callable[[], R]) -> R:
        """The result of ``operation``, run again after every state node that it lacked was fetched.

        Raises NodeMissing once no neighbour has a node or too many are gone, and whatever else ``operation`` raises.
        The node is then looked for in the DHT, which takes too long for a caller to wait.
        """
        for _attempt in range(NODES_MAX):
            try:
                return operation()
            except NodeMissing as error:
                if not await self._fetch(error.content_hash):
                    self.lost(error.content_hash)
                    raise
            except BlobHashMismatch:
                # The store has put the damaged bytes aside: the next try reports the node as missing, by its hash.
                self.counters.add("heal.damaged")
        return operation()

    async def _fetch(self, content: ContentHash) -> bool:
        if self._blobs.has(content):
            try:
                self._blobs.get(content)
            except (BlobNotFound, BlobHashMismatch, StoreNotReadable):
                self.counters.add("heal.damaged")  # good bytes are put in the place of a file that cannot be read
            else:
                return True
        return await self._take(content, self._client.fetch_near)

    async def _take(self, content: ContentHash, fetch: Fetch) -> bool:
        found = await fetch([content])
        if content not in found:
            self.counters.add("heal.not_found")
            return False
        try:
            self._blobs.put(found[content])
        except StoreFull:
            self.counters.add("heal.no_room")
            return False
        except StoreNotWritable:
            self.counters.add("heal.not_stored")
            return False
        self.counters.add("heal.fetched")
        _log.warning("a damaged blob was fetched again", content_hash=content.hex())
        return True
