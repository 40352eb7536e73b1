"""Blobs into the store in batches, beside the loop: while one is made durable, the next is collected.

A batch shares its syncs and its transaction. At most two are in memory, and one part for each transfer that waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from typing import Final

import trio

from agent_world.errors import AgentWorldError
from agent_world.store.blob_store import BlobStore
from agent_world.wire.cid import ContentHash
from agent_world.wire.limits import MIB

BATCH_BYTES: Final = 8 * MIB
"""Stored in one go."""

Aside = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs a function that waits for the disk, without holding up the loop."""


OnStored = Callable[[int], None]
"""Is told how many bytes of blobs have become durable."""


def uncounted(_size: int) -> None:
    """Nobody counts them."""


async def in_thread(wait: Callable[[], None]) -> None:
    """The Aside of a running node.

    Only what waits goes to a thread: a thread that also works has to get the interpreter's lock back after each call
    to the system, which takes 5 ms while the loop is busy, and falls behind what arrives.
    """
    await trio.to_thread.run_sync(wait)


async def at_once(wait: Callable[[], None]) -> None:
    """The Aside of simulations: on a virtual clock no time passes for a thread, and its end comes by chance."""
    await trio.lowlevel.checkpoint()
    wait()


class BatchStoring:
    """Takes verified blobs; get one from ``storing``."""

    def __init__(self, blobs: BlobStore, aside: Aside, stored: OnStored, nursery: trio.Nursery) -> None:
        self._blobs = blobs
        self._aside = aside
        self._stored = stored
        self._nursery = nursery
        self._waiting: dict[ContentHash, bytes] = {}
        self._size = 0
        self._turn = trio.Semaphore(1)
        self._failed: AgentWorldError | None = None

    async def take(self, found: Mapping[ContentHash, bytes]) -> None:
        """Keep these; waits while two batches are on their way. Raises what storing an earlier batch has raised."""
        self._waiting.update(found)
        self._size += sum(map(len, found.values()))
        if self._size < BATCH_BYTES:
            await trio.lowlevel.checkpoint()
            return
        await self._turn.acquire()
        self._hand_over()

    async def flush(self) -> None:
        """Everything taken is stored when it returns; raises what storing raises."""
        await self._turn.acquire()
        self._hand_over()
        async with self._turn:
            self._raise_failure()

    def _hand_over(self) -> None:
        """In its turn, which ends when the batch is stored."""
        batch, self._waiting, self._size = self._waiting, {}, 0
        if batch and self._failed is None:
            self._nursery.start_soon(self._store, batch)
            return
        self._turn.release()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise self._failed

    async def _store(self, batch: Mapping[ContentHash, bytes]) -> None:
        # What has arrived is kept, whoever is cancelled: it need not be fetched again.
        with trio.CancelScope(shield=True):
            try:
                left = batch
                while left:
                    gone = await self._put(left)
                    left = {key: left[key] for key in gone}
                self._stored(sum(map(len, batch.values())))
            except AgentWorldError as error:
                self._failed = error  # told to the next that takes or flushes
            finally:
                self._turn.release()

    async def _put(self, batch: Mapping[ContentHash, bytes]) -> frozenset[ContentHash]:
        """Store a batch; what was removed meanwhile, since nothing reached it, is to be stored again."""
        staged = self._blobs.stage(batch, verified=True)
        with closing(staged.write()) as waits:
            for wait in waits:
                if wait is None:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._aside(wait)
        return self._blobs.commit(staged.prepared)


@asynccontextmanager
async def storing(blobs: BlobStore, aside: Aside, stored: OnStored = uncounted) -> AsyncIterator[BatchStoring]:
    """On leaving, whatever was taken is stored, also when the block was cancelled or has failed.

    An error of the store is raised as it is, whatever group the block has made of it.
    """
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        batches = BatchStoring(blobs, aside, stored, nursery)
        try:
            yield batches
        # Raised again behind the nursery, which would put a group around it; cancellations too go on from there.
        except BaseException as error:  # noqa: BLE001
            failure = error
        with trio.CancelScope(shield=True):
            try:
                await batches.flush()
            except AgentWorldError as error:
                failure = error  # what the block raised is this, or came of it
    if failure is not None:
        raise failure
