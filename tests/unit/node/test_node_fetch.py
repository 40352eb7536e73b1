from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from agent_world.crypto.hashing import content_hash
from agent_world.errors import ErrorCode, Refused
from agent_world.net.memory import InMemoryNetwork, LinkSettings
from agent_world.node.counters import Counters
from agent_world.node.fetch import PATIENCE_S, BlobFetcher
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobsRequest, FetchBlobsResponse
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId, PublicKey, peer_id_of
from agent_world.wire.limits import BLOBS_PER_REQUEST_MAX, RPC_INLINE_BYTES_MAX

DATA = [b"blob %d" % number for number in range(5)]
HASHES = [content_hash(data) for data in DATA]
Answer = Callable[[tuple[ContentHash, ...]], Awaitable[bytes]]


def peer(number: int) -> PeerId:
    return peer_id_of(PublicKey(bytes([number]) * 32))


class Swarm:
    """A fetcher and peers that answer as told."""

    def __init__(self, hub: InMemoryNetwork) -> None:
        self.hub = hub
        self.own = hub.node(peer(100))
        self.counters = Counters()
        self.fetcher = BlobFetcher(self.own, self.counters)
        self.asked: list[tuple[int, int]] = []

    async def add(self, number: int, answer: Answer) -> PeerId:
        node = self.hub.node(peer(number))

        async def serve(_peer: PeerId, data: bytes) -> bytes:
            wanted = record.from_bytes(FetchBlobsRequest, data, size_max=RPC_INLINE_BYTES_MAX).content_hashes
            self.asked.append((number, len(wanted)))
            return await answer(wanted)

        node.serve(rpc.FETCH_BLOBS, serve)
        self.own.dial(node.peer_id, node.listen_addresses()[0])
        await trio.sleep(0.1)
        assert self.hub.is_connected(self.own.peer_id, node.peer_id)
        return node.peer_id


def having(*blobs: bytes, limit: int = 1000) -> Answer:
    """Gives what it has, at most ``limit`` blobs in an answer."""
    by_hash = {content_hash(blob): blob for blob in blobs}

    async def answer(wanted: tuple[ContentHash, ...]) -> bytes:
        left = limit
        found: list[bytes | None] = []
        for item in wanted:
            blob = by_hash.get(item) if left else None
            left -= blob is not None
            found.append(blob)
        return record.to_bytes(FetchBlobsResponse(blobs=tuple(found)))

    return answer


async def silent(_wanted: tuple[ContentHash, ...]) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def lying(wanted: tuple[ContentHash, ...]) -> bytes:
    return record.to_bytes(FetchBlobsResponse(blobs=tuple(b"lie" for _ in wanted)))


async def babbling(_wanted: tuple[ContentHash, ...]) -> bytes:
    return b"\xff"


async def busy(_wanted: tuple[ContentHash, ...]) -> bytes:
    raise Refused(ErrorCode.BUSY, "later")


@pytest.fixture
async def swarm() -> AsyncIterator[Swarm]:
    async with opened() as made:
        yield made


@asynccontextmanager
async def opened() -> AsyncIterator[Swarm]:
    hub = InMemoryNetwork(random.Random(1), LinkSettings(delay_min_s=0.01, delay_max_s=0.01))
    async with hub.open():
        yield Swarm(hub)


async def test_the_first_peer_that_has_all_is_enough(swarm: Swarm, autojump_clock: object) -> None:
    one, two = await swarm.add(1, having(*DATA)), await swarm.add(2, having(*DATA))
    assert await swarm.fetcher.fetch(HASHES, [one, two]) == dict(zip(HASHES, DATA, strict=True))
    assert swarm.asked == [(1, 5)]


async def test_the_next_peer_is_asked_for_what_is_still_missing(swarm: Swarm, autojump_clock: object) -> None:  # T-8.12
    one, two = await swarm.add(1, having(*DATA[:2])), await swarm.add(2, having(*DATA[1:4]))
    assert await swarm.fetcher.fetch(HASHES, [one, two]) == dict(zip(HASHES[:4], DATA[:4], strict=True))
    assert swarm.asked == [(1, 5), (1, 3), (2, 3), (2, 1)]


async def test_nothing_wanted_asks_nobody(swarm: Swarm, autojump_clock: object) -> None:
    assert await swarm.fetcher.fetch([], [await swarm.add(1, having(*DATA))]) == {}
    assert await swarm.fetcher.fetch(HASHES, []) == {}
    assert swarm.asked == []


async def test_the_same_hash_twice_is_one(swarm: Swarm, autojump_clock: object) -> None:
    one = await swarm.add(1, having(*DATA))
    assert await swarm.fetcher.fetch([HASHES[0]] * 3, [one]) == {HASHES[0]: DATA[0]}
    assert swarm.asked == [(1, 1)]


async def test_an_answer_with_a_bound_is_continued(swarm: Swarm, autojump_clock: object) -> None:
    one = await swarm.add(1, having(*DATA, limit=2))
    assert await swarm.fetcher.fetch(HASHES, [one]) == dict(zip(HASHES, DATA, strict=True))
    assert swarm.asked == [(1, 5), (1, 3), (1, 1)]


async def test_many_hashes_are_several_requests(swarm: Swarm, autojump_clock: object) -> None:
    many = [b"%d" % number for number in range(BLOBS_PER_REQUEST_MAX + 10)]
    one = await swarm.add(1, having(*many, limit=10_000))
    found = await swarm.fetcher.fetch(map(content_hash, many), [one])
    assert len(found) == len(many)
    assert swarm.asked == [(1, BLOBS_PER_REQUEST_MAX), (1, 10)]


@pytest.mark.parametrize(
    ("answer", "counter", "count"),
    [
        (lying, "fetch.wrong_bytes.L4", 5),
        (babbling, "fetch.wrong_bytes.D2", 1),
        (busy, f"fetch.refused.{ErrorCode.BUSY}", 1),
    ],
)
async def test_who_gives_nothing_right_is_counted_and_the_next_is_asked(
    swarm: Swarm, autojump_clock: object, answer: Answer, counter: str, count: int
) -> None:
    bad, good = await swarm.add(1, answer), await swarm.add(2, having(*DATA))
    assert await swarm.fetcher.fetch(HASHES, [bad, good]) == dict(zip(HASHES, DATA, strict=True))
    assert dict(swarm.counters) == {counter: count}


async def test_one_lie_loses_none_of_its_neighbours(swarm: Swarm, autojump_clock: object) -> None:
    async def one_lie(wanted: tuple[ContentHash, ...]) -> bytes:
        honest = dict(zip(HASHES, DATA, strict=True))
        return record.to_bytes(FetchBlobsResponse(blobs=(b"lie", *(honest[item] for item in wanted[1:]))))

    bad, good = await swarm.add(1, one_lie), await swarm.add(2, having(*DATA))
    assert len(await swarm.fetcher.fetch(HASHES, [bad, good])) == 5
    assert swarm.asked[-1] == (2, 1)


async def test_a_silent_peer_is_not_waited_for_alone(swarm: Swarm, autojump_clock: object) -> None:
    bad, good = await swarm.add(1, silent), await swarm.add(2, having(*DATA))
    started = trio.current_time()
    assert len(await swarm.fetcher.fetch(HASHES, [bad, good])) == 5
    assert PATIENCE_S <= trio.current_time() - started < PATIENCE_S + 0.1


async def test_a_slow_answer_still_counts(swarm: Swarm, autojump_clock: object) -> None:
    async def slow(wanted: tuple[ContentHash, ...]) -> bytes:
        await trio.sleep(2)
        return await having(*DATA)(wanted)

    one, two = await swarm.add(1, slow), await swarm.add(2, having())
    started = trio.current_time()
    assert len(await swarm.fetcher.fetch(HASHES, [one, two])) == 5
    assert trio.current_time() - started < 2.1


async def test_if_all_are_silent_the_deadline_ends_it(swarm: Swarm, autojump_clock: object) -> None:
    peers = [await swarm.add(number, silent) for number in (1, 2, 3)]
    started = trio.current_time()
    assert await swarm.fetcher.fetch(HASHES, peers, timeout_s=1.5) == {}
    assert trio.current_time() - started <= 2 * PATIENCE_S + 1.5 + 0.1
    assert swarm.counters[f"fetch.refused.{ErrorCode.TIMEOUT}"] == 3


async def test_peers_are_asked_in_the_order_that_was_set(swarm: Swarm, autojump_clock: object) -> None:
    one, two = await swarm.add(1, silent), await swarm.add(2, silent)
    assert swarm.fetcher.peers() == sorted([one, two])
    swarm.fetcher.order = lambda connected: list(reversed(connected))
    assert swarm.fetcher.peers() == sorted([one, two])[::-1]
    lower = min(one, two)
    assert swarm.fetcher.peers([lower, peer(9)]) == sorted([one, two])
