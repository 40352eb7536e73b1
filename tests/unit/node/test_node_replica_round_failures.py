"""Failures end no round, and nothing is given up because of them (3.10)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from keepers import (
    late,
    named,
    refusing,
)

from agent_world.distfs.replicas import (
    ReplicaReleaseTask,
)
from agent_world.errors import ErrorCode
from agent_world.net.reputation import Offence
from agent_world.node.replica_round import (
    CONFIRM_EVERY_S,
    CONFIRM_S,
)
from agent_world.wire.replica import Holding, ReplicaAsk, ReplicaRequest


@pytest.mark.parametrize("says", [Holding.COMING, Holding.NAMED, Holding.UNKNOWN])
async def test_no_source_is_relieved_before_the_copy_is_there(
    rounds: Any, autojump_clock: object, says: Holding
) -> None:
    made = rounds()
    made.keeper(0).becomes = says
    made.planned.move(1, made.peers[0], source=made.peers[1])
    report = await made.round()
    assert made.sent(ReplicaAsk.RELEASE) == []
    assert report.succeeded_tasks == 0
    assert report.under_way_tasks == (says is Holding.COMING)


async def test_a_source_that_refuses_to_go_is_noted(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    a, b, *_ = made.peers
    made.keeper(1).on[ReplicaAsk.RELEASE] = refusing("R9")
    task = made.planned.move(1, a, source=b)
    report = await made.round()
    ((release, error),) = report.failed_tasks
    assert release == ReplicaReleaseTask(content_hash=task.content_hash, holder_id=b)
    assert "no" in error
    assert made.planned.refusals == [(b, task.content_hash)]
    assert report.succeeded_tasks == 1


async def test_who_goes_on_holding_is_under_way(rounds: Any, autojump_clock: object) -> None:
    """Its own check of the others may take longer, or fail: another holder is asked next time."""
    made = rounds()

    async def later(_request: ReplicaRequest) -> bytes:
        return made.keeper(0).say([Holding.HELD])

    made.keeper(0).holdings[named(1)] = Holding.HELD
    made.keeper(0).on[ReplicaAsk.RELEASE] = later
    made.planned.release(1, made.peers[0])
    started = trio.current_time()
    report = await made.round()
    assert trio.current_time() - started == pytest.approx(CONFIRM_S)
    assert (report.succeeded_tasks, report.under_way_tasks, report.failed_tasks) == (0, 1, [])
    assert made.planned.refusals == [(made.peers[0], named(1).digest)]


@pytest.mark.parametrize(
    ("rule", "code", "counter", "remembered"),
    [
        ("R8", ErrorCode.BUSY, "R8", True),
        ("R7", ErrorCode.NOT_AVAILABLE, "R7", True),
        ("R10", ErrorCode.BUSY, "R10", False),
        ("", ErrorCode.TIMEOUT, "ERR_TIMEOUT", True),
        ("", ErrorCode.NOT_AVAILABLE, "ERR_NOT_AVAILABLE", True),
    ],
)
async def test_a_refusal_is_noted_and_ends_no_round(
    rounds: Any, autojump_clock: object, rule: str, code: ErrorCode, counter: str, remembered: bool
) -> None:
    made = rounds()
    a, b, *_ = made.peers
    made.keeper(0).on[ReplicaAsk.HOLD] = refusing(rule, code)
    task = made.planned.repair(1, a)
    made.planned.repair(2, b)
    report = await made.round()
    assert (report.attempted_tasks, report.succeeded_tasks, report.under_way_tasks) == (2, 1, 0)
    assert [failed for failed, _error in report.failed_tasks] == [task]
    assert made.rounds.counters[f"replicas.task_refused.{counter}"] == 1
    assert made.rounds.counters["replicas.failed"] == 1
    assert made.planned.refusals == ([(a, task.content_hash)] if remembered else [])


async def test_an_answer_that_is_none_is_a_refusal(rounds: Any, autojump_clock: object) -> None:
    made = rounds()

    async def nonsense(_request: ReplicaRequest) -> bytes:
        return b"\xff"

    made.keeper(0).on[ReplicaAsk.HOLD] = nonsense
    made.planned.repair(1, made.peers[0])
    report = await made.round()
    assert len(report.failed_tasks) == 1
    assert made.rounds.counters["replicas.task_refused.D2"] == 1
    assert made.node.blamed == [(made.peers[0], Offence.GARBAGE)]


@pytest.mark.parametrize("says", [Holding.NAMED, Holding.UNKNOWN])
async def test_who_agrees_and_does_nothing_is_not_asked_again(
    rounds: Any, autojump_clock: object, says: Holding
) -> None:
    made = rounds()
    made.keeper(0).becomes = says
    task = made.planned.repair(1, made.peers[0])
    report = await made.round()
    assert report.failed_tasks == [(task, f"it has agreed, and says {says.value}")]
    assert made.planned.refusals == [(made.peers[0], task.content_hash)]
    assert made.rounds.counters["replicas.not_begun"] == 1
    assert (report.under_way_tasks, report.succeeded_tasks) == (0, 0)


async def test_who_changes_its_answer(rounds: Any, autojump_clock: object) -> None:
    """It says that it fetches, then that it does not, then that it does, then that it has it."""
    made = rounds()
    said = iter([Holding.COMING, Holding.NAMED, Holding.COMING, Holding.HELD])

    async def changing(_request: ReplicaRequest) -> bytes:
        return made.keeper(0).say([next(said)])

    made.keeper(0).on[ReplicaAsk.STATUS] = changing
    made.planned.repair(1, made.peers[0])
    started = trio.current_time()
    report = await made.round()
    assert (report.succeeded_tasks, report.failed_tasks) == (1, [])
    assert trio.current_time() - started == pytest.approx(4 * CONFIRM_EVERY_S)


async def test_content_that_vanishes_at_its_target_is_under_way_again(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    made.keeper(0).becomes = Holding.COMING
    made.planned.repair(1, made.peers[0])
    report = await made.round()
    assert (report.succeeded_tasks, report.under_way_tasks, report.failed_tasks) == (0, 1, [])
    assert made.planned.refusals == []


async def test_a_target_that_falls_silent_is_under_way(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    made.keeper(0).on[ReplicaAsk.STATUS] = refusing("", ErrorCode.TIMEOUT)
    made.planned.repair(1, made.peers[0])
    made.planned.move(2, made.peers[0], source=made.peers[1])
    report = await made.round()
    assert (report.succeeded_tasks, report.under_way_tasks, report.failed_tasks) == (0, 2, [])
    assert made.rounds.counters["replicas.no_status.ERR_TIMEOUT"] == CONFIRM_S - 1
    assert made.sent(ReplicaAsk.RELEASE) == []


async def test_one_that_is_slow_to_answer_holds_up_none_of_the_others(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    made.keeper(0).on[ReplicaAsk.STATUS] = late(CONFIRM_S + 10)
    made.planned.repair(1, made.peers[0])
    for number in range(1, 5):
        made.planned.move(1 + number, made.peers[number], source=made.peers[number])
    report = await made.round()
    assert (report.succeeded_tasks, report.under_way_tasks) == (4, 1)
    assert len(made.sent(ReplicaAsk.RELEASE)) == 4


async def test_a_planner_that_goes_in_the_middle_leaves_nothing_behind(rounds: Any, autojump_clock: object) -> None:
    """The copy that it has begun is made, no source was relieved, and its next round sees what is so."""
    made = rounds()
    a, b, *_ = made.peers
    made.keeper(0).becomes = Holding.COMING
    made.planned.move(1, a, source=b)
    with trio.move_on_after(CONFIRM_S / 2):
        await made.rounds.round()
    assert made.sent(ReplicaAsk.RELEASE) == []
    assert made.rounds.last is None
    assert made.rounds.counters["replicas.rounds"] == 0
    made.keeper(0).becomes = Holding.HELD
    with trio.fail_after(5):
        report = await made.round()
    assert report.succeeded_tasks == 1
