"""Missing heights come from several peers at once, are applied in order, and nobody is asked in vain for ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

from agent_world.errors import ChainError, ErrorCode, HomeError, Refused
from agent_world.node.clock import Clock
from agent_world.node.range_sync import RANGES_MAX, RangeSync
from agent_world.wire import record
from agent_world.wire.block import BlockBundle, GetBlocksRequest, GetBlocksResponse
from agent_world.wire.ids import PeerId, WorldId
from agent_world.wire.limits import RANGE_BLOCKS_MAX

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
Answer = Callable[[int, int], Awaitable[bytes]]


def bundle(height: int, good: bool = True) -> BlockBundle:
    return BlockBundle(block=b"%d" % height if good else b"wrong", certificate=b"", actions=())


def bundles(first: int, last: int, *, good: bool = True) -> bytes:
    return record.to_bytes(GetBlocksResponse(bundles=tuple(bundle(height, good) for height in range(first, last + 1))))


@attrs.define
class Chain:
    """A ledger of heights only."""

    height: int = 0
    world_id: WorldId = WorldId("w")
    moved: trio.Event = attrs.Factory(trio.Event)

    def rise(self) -> None:
        self.height += 1
        self.moved.set()
        self.moved = trio.Event()

    async def wait_above(self, height: int) -> None:
        while self.height <= height:
            await self.moved.wait()


class Peers:
    """A network of peers that answer as told; the clock is trio's."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int, int]] = []
        self.in_flight = self.most = 0

    async def request(self, peer: PeerId, _method: str, payload: bytes) -> bytes:
        asked = record.from_bytes(GetBlocksRequest, payload, size_max=999)
        self.asked.append((peer, asked.from_height, asked.to_height))
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            return await self.answers[peer](asked.from_height, asked.to_height)
        finally:
            self.in_flight -= 1


async def quick(first: int, last: int) -> bytes:
    await trio.sleep(0.01)
    return bundles(first, last)


async def slow(first: int, last: int) -> bytes:
    await trio.sleep(3)
    return bundles(first, last)


async def short(first: int, last: int) -> bytes:
    return bundles(first, min(last, first + 9))


async def wrong(first: int, last: int) -> bytes:
    return bundles(first, last, good=False)


async def nothing(_first: int, _last: int) -> bytes:
    return record.to_bytes(GetBlocksResponse(bundles=()))


async def too_many(first: int, last: int) -> bytes:
    return bundles(first, last + 1)


async def garbage(_first: int, _last: int) -> bytes:
    return b"\xff"


async def busy(_first: int, _last: int) -> bytes:
    raise Refused(ErrorCode.BUSY, "busy")


async def pruned(_first: int, _last: int) -> bytes:
    raise Refused(ErrorCode.NOT_FOUND, "not here")


async def silent(_first: int, _last: int) -> bytes:
    await trio.sleep(10)
    raise Refused(ErrorCode.TIMEOUT, "no answer in time")


def make(chain: Chain, peers: Peers) -> tuple[RangeSync, list[int]]:
    applied: list[int] = []

    async def apply(height: int, found: BlockBundle) -> None:
        if found.block != b"%d" % height:
            raise ChainError(height, "block", "wrong")
        await trio.lowlevel.checkpoint()
        applied.append(height)
        chain.rise()

    parts: Any = (chain, peers)
    sync = RangeSync(
        *parts, Clock(lambda: 0), sources=lambda _height: [PeerId(name) for name in peers.answers], apply=apply
    )
    return sync, applied


async def test_ranges_come_from_several_peers_at_once_and_are_applied_in_order(autojump_clock: object) -> None:
    chain, peers = Chain(), Peers(a=quick, b=slow, c=quick)
    sync, applied = make(chain, peers)
    target = 10 * RANGE_BLOCKS_MAX + 7
    await sync.run(lambda: target)
    assert applied == list(range(1, target + 1))
    assert {peer for peer, _, _ in peers.asked} == {"a", "b", "c"}
    assert peers.most == 3
    heights = sorted(height for _, first, last in peers.asked for height in range(first, last + 1))
    assert heights == applied  # nothing is asked for twice
    assert all(last - first < RANGE_BLOCKS_MAX for _, first, last in peers.asked)


async def test_no_more_than_a_few_ranges_wait_behind_a_slow_one(autojump_clock: object) -> None:
    chain, peers = Chain(), Peers(a=slow, b=quick)
    sync, _ = make(chain, peers)
    with trio.move_on_after(1):
        await sync.run(lambda: 1_000)
    assert chain.height == 0
    assert max(last for _, _, last in peers.asked) <= RANGES_MAX * RANGE_BLOCKS_MAX


async def test_what_a_short_answer_leaves_is_asked_for_again(autojump_clock: object) -> None:
    chain, peers = Chain(), Peers(a=short)
    sync, applied = make(chain, peers)
    await sync.run(lambda: 35)
    assert applied == list(range(1, 36))


async def test_the_target_may_rise_and_heights_may_come_from_elsewhere(autojump_clock: object) -> None:
    chain, peers = Chain(), Peers(a=quick)
    sync, applied = make(chain, peers)

    def target() -> int:
        if chain.height == 3:
            chain.rise()  # decided by voting
        return 5 if chain.height < 4 else 9

    await sync.run(target)
    assert chain.height == 9
    assert applied == sorted(set(applied))


@pytest.mark.parametrize("bad", [wrong, nothing, too_many, garbage, busy, pruned, silent])
async def test_one_bad_peer_holds_nobody_up(autojump_clock: object, bad: Answer) -> None:
    chain, peers = Chain(), Peers(a=bad, b=quick)
    sync, applied = make(chain, peers)
    started = trio.current_time()
    await sync.run(lambda: 300)
    assert applied == list(range(1, 301))
    assert trio.current_time() - started < 60
    assert sync.plan.last_error is None


async def test_only_bad_peers_are_asked_again_and_again_at_a_bounded_pace(autojump_clock: object) -> None:
    chain, peers = Chain(), Peers(a=wrong, b=busy)
    sync, _ = make(chain, peers)
    with trio.move_on_after(60):
        await sync.run(lambda: 10)
    assert chain.height == 0
    assert sync.plan.last_error is not None
    assert 6 < len(peers.asked) < 60
    peers.answers["a"] = quick
    with trio.fail_after(30):
        await sync.run(lambda: 10)


async def test_a_peer_that_does_not_have_it_is_at_no_fault(autojump_clock: object) -> None:
    chain, peers = Chain(), Peers(a=pruned)
    sync, _ = make(chain, peers)
    with trio.move_on_after(5):
        await sync.run(lambda: 10)
    assert sync.plan.last_error is None
    assert sync.counters["sync.refused.ERR_NOT_FOUND"] <= 6


async def test_nobody_to_ask_is_waited_for(autojump_clock: object) -> None:
    chain, peers = Chain(), Peers()
    sync, _ = make(chain, peers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync.run, lambda: 10)
        await trio.sleep(20)
        peers.answers["a"] = quick
    assert chain.height == 10


async def test_the_own_disk_is_nobody_elses_fault(autojump_clock: object) -> None:
    chain, peers = Chain(), Peers(a=quick)

    async def full(_height: int, _bundle: BlockBundle) -> None:
        raise HomeError("the disk is full")

    parts: Any = (chain, peers)
    sync = RangeSync(*parts, Clock(lambda: 0), sources=lambda _height: [A], apply=full)
    with pytest.raises(ExceptionGroup) as caught:
        await sync.run(lambda: 5)
    assert caught.group_contains(HomeError)
