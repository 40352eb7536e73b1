from __future__ import annotations

import time

import trio

from agent_world.node.clock import Clock


async def test_scheduling_follows_trios_clock_and_records_the_wall(autojump_clock: object) -> None:
    clock = Clock(lambda: 42)
    started = clock.now_ms()
    await trio.sleep(1.5)
    assert clock.now_ms() - started in (1499, 1500, 1501)
    assert clock.wall_ms() == 42


def test_wall_time_is_milliseconds_since_the_epoch() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= Clock().wall_ms() <= time.time_ns() // 1_000_000
