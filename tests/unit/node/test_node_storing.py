"""node/storing.py: batches beside the loop, bounded; errors surface, what was taken is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from agent_world.crypto.hashing import content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import HomeError
from agent_world.node import storing as module
from agent_world.node.storing import at_once, in_thread, storing
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from agent_world.wire.cid import ContentHash

GENESIS = hash32(b"genesis")
BLOBS = [bytes([number]) * 20_000 for number in range(12)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCasStore]:
    monkeypatch.setattr(module, "BATCH_BYTES", 60_000)  # three of the blobs
    key = KeyPair(bytes(32))
    Home.create(tmp_path / "home", genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=key)
    with Home.open(tmp_path / "home", GENESIS) as home:
        yield LocalCasStore(home)


def one(blob: bytes) -> dict[ContentHash, bytes]:
    return {content_hash(blob): blob}


def held(store: LocalCasStore) -> int:
    return len(store.has_many([content_hash(blob) for blob in BLOBS]))


@pytest.mark.parametrize("aside", [at_once, in_thread])
async def test_everything_is_stored_and_told(store: LocalCasStore, aside: module.Aside) -> None:
    told: list[int] = []
    async with storing(store, aside, told.append) as batches:
        for blob in BLOBS[:7]:
            await batches.take(one(blob))
    assert held(store) == 7
    assert told == [60_000, 60_000, 20_000]
    assert all(store.get(content_hash(blob)) == blob for blob in BLOBS[:7])


class Gate:
    """An Aside that waits until it is opened."""

    def __init__(self) -> None:
        self.opened = trio.Event()
        self.waiting = 0

    async def __call__(self, wait: Callable[[], None]) -> None:
        self.waiting += 1
        await self.opened.wait()
        wait()


async def test_two_batches_and_no_more_are_in_memory(store: LocalCasStore) -> None:
    gate, taken = Gate(), 0
    async with storing(store, gate) as batches, trio.open_nursery() as nursery:

        async def take_all() -> None:
            nonlocal taken
            for blob in BLOBS:
                await batches.take(one(blob))
                taken += 1

        nursery.start_soon(take_all)
        await trio.testing.wait_all_tasks_blocked()
        assert (taken, gate.waiting) == (5, 1), "one batch is written, the next is full and waits"
        gate.opened.set()
    assert held(store) == len(BLOBS)


async def test_the_loop_goes_on_while_the_disk_is_waited_for(store: LocalCasStore) -> None:
    gate = Gate()
    async with storing(store, gate) as batches:
        for blob in BLOBS[:3]:
            await batches.take(one(blob))
        await trio.testing.wait_all_tasks_blocked()
        assert gate.waiting == 1
        assert held(store) == 0, "it exists once it is durable, not before"
        gate.opened.set()
    assert held(store) == 3


async def test_what_was_taken_is_stored_after_a_cancellation(store: LocalCasStore) -> None:
    with trio.CancelScope() as scope:
        async with storing(store, in_thread) as batches:
            for blob in BLOBS[:4]:
                await batches.take(one(blob))
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert held(store) == 4


async def test_what_was_taken_is_stored_after_an_error_of_the_block(store: LocalCasStore) -> None:
    async def take_and_fail() -> None:
        async with storing(store, in_thread) as batches:
            await batches.take(one(BLOBS[0]))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        await take_and_fail()
    assert held(store) == 1


async def test_a_disk_that_refuses_is_told_to_whoever_takes_next(store: LocalCasStore) -> None:
    async def refuse(_wait: Callable[[], None]) -> None:
        await trio.lowlevel.checkpoint()
        raise HomeError("No space left")

    taken = 0

    async def take_all(batches: module.BatchStoring) -> None:
        nonlocal taken
        for blob in BLOBS:
            await batches.take(one(blob))
            taken += 1

    async def store_all() -> None:
        async with storing(store, refuse) as batches, trio.open_nursery() as nursery:
            nursery.start_soon(take_all, batches)

    with pytest.raises(HomeError, match="No space"):
        await store_all()
    assert taken < len(BLOBS)
    assert held(store) == 0


async def test_a_disk_that_refuses_the_last_batch_is_told_on_leaving(store: LocalCasStore) -> None:
    async def refuse(_wait: Callable[[], None]) -> None:
        raise HomeError("No space left")

    async def store_one() -> None:
        async with storing(store, refuse) as batches:
            await batches.take(one(BLOBS[0]))

    with pytest.raises(HomeError, match="No space"):
        await store_one()
    assert held(store) == 0
