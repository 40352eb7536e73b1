from __future__ import annotations

import trio
from trio.testing import MockClock

from agent_world.node.alarm import Alarm
from agent_world.node.clock import Clock


def after(seconds: float) -> int:
    return Clock().now_ms() + round(seconds * 1000)


async def test_it_rings_at_the_earliest_time_set_and_once(autojump_clock: MockClock) -> None:
    alarm, rung = Alarm(), []
    began = trio.current_time()
    alarm.set(after(5))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarm.run, lambda: rung.append(round(trio.current_time() - began, 2)))
        await trio.sleep(1)
        alarm.set(after(8))  # later than what it waits for: nothing changes
        alarm.set(None)
        await trio.sleep(1)
        alarm.set(after(1))
        await trio.sleep(20)
        assert rung == [3]
        alarm.set(after(40))
        await trio.sleep(60)
        assert rung == [3, 62]
        alarm.set(after(-1))  # over already
        await trio.sleep(0.1)
        assert rung == [3, 62, 82]
        nursery.cancel_scope.cancel()


async def test_what_is_due_at_a_time_is_due_when_it_rings(autojump_clock: MockClock) -> None:
    alarm, at_ms = Alarm(), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarm.run, lambda: at_ms.append(Clock().now_ms()))
        for pause in range(1, 400):
            due = Clock().now_ms() + pause
            alarm.set(due)
            await trio.sleep(1)
            assert at_ms.pop() >= due
        nursery.cancel_scope.cancel()


async def test_it_can_be_run_again_and_keeps_its_time(autojump_clock: MockClock) -> None:
    alarm, rung = Alarm(), []
    began = trio.current_time()
    alarm.set(after(3))
    for _ in range(2):
        with trio.move_on_after(2):
            await alarm.run(lambda: rung.append(trio.current_time() - began))
    assert [round(at, 2) for at in rung] == [3]
