"""The simulated internet: order, walls, stalls, cuts and lost machines."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from agent_world.errors import UsageError
from agent_world.testing.sim_libp2p.internet import (
    NobodyListens,
    SimInternet,
    SimStream,
    Weather,
    address_of,
    open_internet,
)

A, B, C = (address_of(number) for number in range(3))


class Listener:
    def __init__(self, address: str) -> None:
        self.address = address
        self.accepted: list[SimStream] = []

    def accept(self, stream: SimStream, remote: str) -> None:
        self.accepted.append(stream)


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[SimInternet, SimStream, SimStream]]:
    """A connection dialled by A, accepted by B."""
    async with open_internet(random.Random(1), Weather()) as internet:
        listener = Listener(B)
        internet.listen(listener)
        near = await internet.connect(A, B)
        yield internet, near, listener.accepted[0]


async def read(stream: SimStream, within_s: float = 1.0) -> bytes | None:
    with trio.move_on_after(within_s):
        return await stream.receive_some(64)
    return None


async def test_bytes_arrive_late_and_in_order(autojump_clock: object) -> None:
    async with linked() as (_internet, near, far):
        for number in range(50):
            await near.send_all(b"%03d" % number)
        started_s, got = trio.current_time(), b""
        while len(got) < 150:
            got += await far.receive_some(64)
        assert got == b"".join(b"%03d" % number for number in range(50))
        assert 0.005 <= trio.current_time() - started_s <= 0.05
        await near.aclose()
        assert await far.receive_some(64) == b""


async def test_nobody_listens_where_nobody_runs(autojump_clock: object) -> None:
    async with open_internet(random.Random(1), Weather()) as internet:
        with pytest.raises(NobodyListens):
            await internet.connect(A, B)


async def test_a_partition_holds_back_both_ways_until_it_heals(autojump_clock: object) -> None:
    async with linked() as (internet, near, far):
        internet.partition([A], [B, C])
        await near.send_all(b"there")
        await far.send_all(b"back")
        assert await read(far) is None
        assert await read(near) is None
        with trio.move_on_after(60) as waiting:
            await internet.connect(A, B)
        assert waiting.cancelled_caught
        internet.heal()
        assert await read(far) == b"there"
        assert await read(near) == b"back"


async def test_a_wall_holds_back_one_way(autojump_clock: object) -> None:
    async with linked() as (internet, near, far):
        internet.wall([A], [B])
        await near.send_all(b"there")
        await far.send_all(b"back")
        assert await read(near) == b"back"
        assert await read(far) is None
        internet.heal()
        assert await read(far) == b"there"


async def test_a_lost_segment_stalls_all_that_follows(autojump_clock: object) -> None:
    async with linked() as (internet, near, far):
        internet.weather = Weather(stall_probability=1.0, stall_max_s=2.0)
        await near.send_all(b"1")
        internet.weather = Weather()
        await near.send_all(b"2")
        assert await read(far, 0.19) is None
        assert await read(far, 2.0) in (b"1", b"12")
        assert internet.counts["stall"] == 1


async def test_a_cut_breaks_both_ends(autojump_clock: object) -> None:
    async with linked() as (internet, near, far):
        internet.weather = Weather(cut_probability=1.0)
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some(64)
        assert internet.open_links(A) == {}


async def test_the_end_of_a_process_is_told_but_not_through_a_wall(autojump_clock: object) -> None:
    async with linked() as (internet, near, _far):
        internet.partition([A], [B])
        internet.crash(B)
        assert await read(near, 30.0) is None
        internet.heal()
    async with linked() as (internet, near, _far):
        internet.crash(B)
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some(64)


async def test_a_machine_that_is_gone_says_nothing_until_it_is_up_again(autojump_clock: object) -> None:
    async with linked() as (internet, near, far):
        await far.send_all(b"last")
        internet.crash(B, silently=True)
        assert await read(near) == b"last"
        with pytest.raises(trio.BrokenResourceError):
            await far.send_all(b"x")
        await near.send_all(b"are you there")
        assert await read(near, 30.0) is None
        internet.listen(Listener(B))
        await near.send_all(b"and now")
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some(64)


async def test_who_has_closed_takes_no_more(autojump_clock: object) -> None:
    async with linked() as (internet, near, far):
        await far.aclose()
        await near.send_all(b"on its way")  # the end has not arrived yet
        await trio.sleep(1)
        assert internet.open_links(A) == {}
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"x")


async def test_a_writer_waits_for_a_slow_reader(autojump_clock: object) -> None:
    async with linked() as (_internet, near, far):
        for _ in range(5):
            await near.send_all(bytes(1 << 18))
        with trio.move_on_after(5) as waiting:
            await near.send_all(b"more")
        assert waiting.cancelled_caught
        await far.receive_some(1 << 20)
        await near.send_all(b"more")


@pytest.mark.parametrize(
    "wrong",
    [{"delay_min_s": 1.0}, {"cut_probability": 1.5}, {"stall_probability": -0.1}, {"stall_max_s": 0.1}],
)
def test_impossible_weather_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Weather(**wrong)
