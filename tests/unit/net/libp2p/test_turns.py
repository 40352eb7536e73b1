"""net/libp2p/turns.py: others get their turn between two frames while what they do takes long, and hardly ever else."""

from __future__ import annotations

import trio
import trio.testing

from agent_world.net.libp2p.turns import LONG_S, Turns

FRAMES = 200


async def turns_given(work_s: float) -> int:
    """How many of FRAMES frames were taken while the work on the ones before was done, of which each has so much."""
    clock = trio.testing.MockClock()
    given = 0

    async def run() -> None:
        nonlocal given
        turns, done = Turns(), 0

        async def work() -> None:
            nonlocal done
            clock.jump(work_s)
            done += 1

        async with trio.open_nursery() as nursery:
            for _ in range(FRAMES):
                nursery.start_soon(work)
                before = done
                await turns.give()
                given += done > before

    await trio.to_thread.run_sync(lambda: trio.run(run, clock=clock))
    return given


async def test_long_work_is_not_held_up_by_the_next_frame() -> None:
    # Who of those that are ready goes first is chance, so not every single work is done before the next frame.
    assert await turns_given(2 * LONG_S) > FRAMES // 3


async def test_short_work_is_handed_out_together() -> None:
    assert 0 < await turns_given(LONG_S / 10) < FRAMES // 5
