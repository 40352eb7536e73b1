"""net/libp2p/turns.py: others get their turn between two frames while what they do takes long, and seldom else."""

from __future__ import annotations

from collections.abc import Sequence

import trio
import trio.testing

from agent_world.net.libp2p.turns import LONG_S, ONE_BY_ONE, TOGETHER, Turns


async def let_go_first(works_s: Sequence[float], burst: int) -> list[bool]:
    """For each frame, of which each makes so much work, whether some work was done between it and the next.

    ``burst`` frames arrive at a time.
    """
    clock = trio.testing.MockClock()
    given: list[bool] = []

    async def run() -> None:
        turns, done = Turns(), 0

        async def work(seconds: float) -> None:
            nonlocal done
            clock.jump(seconds)
            done += 1

        async with trio.open_nursery() as nursery:
            for number, seconds in enumerate(works_s, 1):
                nursery.start_soon(work, seconds)
                before = done
                if number % burst:
                    await turns.give()
                else:
                    turns.rest()
                given.append(done > before)

    await trio.to_thread.run_sync(lambda: trio.run(run, clock=clock))
    return given


async def test_long_work_is_not_held_up_by_the_next_frame() -> None:
    given = await let_go_first([2 * LONG_S] * 200, 200)
    assert not any(given[: TOGETHER - 1])
    # Who of those that are ready goes first is chance, so not every single work is done before the next frame.
    assert sum(given) > 60


async def test_short_work_is_handed_out_together() -> None:
    given = await let_go_first([LONG_S / 2] * 200, 200)
    assert sum(given) <= 200 // TOGETHER


async def test_work_that_is_short_again_is_handed_out_together_again() -> None:
    given = await let_go_first([2 * LONG_S] * TOGETHER + [LONG_S / 2] * 400, 500)
    later = given[2 * TOGETHER + ONE_BY_ONE :]
    assert sum(given[: -len(later)]) > TOGETHER
    assert sum(later) <= len(later) // TOGETHER + 1


async def test_a_few_frames_at_a_time_are_handed_out_together_whatever_they_are() -> None:
    assert not any(await let_go_first([2 * LONG_S] * 200, TOGETHER))
