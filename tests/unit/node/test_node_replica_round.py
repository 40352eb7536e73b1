"""What a round asks of whom, what counts as done, and its bounds (3.10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio
from keepers import (
    CONFIG,
    ME,
    SETTLED_S,
    TARGET,
    data_of,
    late,
    named,
    refusing,
)

from agent_world.distfs.providers import ProviderRecord
from agent_world.node.replica_round import (
    AT_ONCE,
    CONFIRM_EVERY_S,
    FAILED_SHOWN,
    ROUND_BYTES_MAX,
    ReplicaMaintenanceReport,
    shown_plan,
    shown_task,
)
from agent_world.store.content import ContentState
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import Holding, ReplicaAsk


async def test_a_copy_is_made_and_seen(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    a, b, *_ = made.peers
    made.planned.repair(1, a, source=b, size_bytes=30)
    at_ms = made.node.clock.wall_ms()
    report = await made.round()
    assert made.keeper(0).done == [(ReplicaAsk.HOLD, named(1), b)]
    assert report == ReplicaMaintenanceReport(attempted_tasks=1, succeeded_tasks=1, copied_bytes=30)
    assert dict(made.rounds.counters) == {
        "replicas.rounds": 1, "replicas.attempted": 1, "replicas.succeeded": 1, "replicas.failed": 0,
        "replicas.copied_bytes": 30,
    }  # fmt: skip
    assert made.rounds.last is not None
    assert made.rounds.last.polled_at_ms == at_ms
    assert made.planned.refusals == []


async def test_nothing_planned_takes_no_time(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    started = trio.current_time()
    assert await made.round() == ReplicaMaintenanceReport()
    assert trio.current_time() == pytest.approx(started)
    assert made.node.asked == []


async def test_a_move_relieves_its_source_once_the_copy_is_there(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    a, b, *_ = made.peers
    made.planned.move(1, a, source=b)
    report = await made.round()
    assert made.keeper(0).done == [(ReplicaAsk.RELIEVE, named(1), b)]
    assert made.keeper(1).done == [(ReplicaAsk.RELEASE, named(1), None)]
    assert (report.attempted_tasks, report.succeeded_tasks, report.failed_tasks) == (1, 1, [])
    asks = [(peer, ask) for peer, ask, _contents in made.node.asked]
    assert asks == [(a, ReplicaAsk.RELIEVE), (a, ReplicaAsk.STATUS), (b, ReplicaAsk.RELEASE)], (
        "first the copy, then a look at it"
    )


async def test_a_repair_relieves_nobody(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    made.planned.repair(1, made.peers[0], source=made.peers[1])
    await made.round()
    assert made.sent(ReplicaAsk.RELEASE) == []


async def test_a_copy_too_many_is_given_up(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    made.keeper(0).holdings[named(1)] = Holding.HELD
    made.planned.release(1, made.peers[0])
    report = await made.round()
    assert made.keeper(0).done == [(ReplicaAsk.RELEASE, named(1), None)]
    assert report == ReplicaMaintenanceReport(attempted_tasks=1, succeeded_tasks=1)


async def test_one_request_tells_of_all_tasks_of_a_node(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    for number in range(6):
        made.planned.repair(number, made.peers[number % 2])
    await made.round()
    assert [len(contents) for _peer, contents in made.sent(ReplicaAsk.STATUS)] == [3, 3]


async def test_only_so_many_requests_at_once(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    for keeper in made.node.others.values():
        keeper.on[ReplicaAsk.HOLD] = late(1)
    for number in range(5 * AT_ONCE):
        made.planned.repair(number, made.peers[number % 5])
    started = trio.current_time()
    report = await made.round()
    assert report.succeeded_tasks == 5 * AT_ONCE
    assert trio.current_time() - started == pytest.approx(5 + CONFIRM_EVERY_S)


@pytest.mark.parametrize(
    ("sizes", "copied", "deferred"),
    [
        ([ROUND_BYTES_MAX, 1], ROUND_BYTES_MAX, 1),
        ([ROUND_BYTES_MAX - 1, 1, 1], ROUND_BYTES_MAX, 1),
        ([5 * ROUND_BYTES_MAX], 5 * ROUND_BYTES_MAX, 0),
        ([ROUND_BYTES_MAX - 1, 2, 1], ROUND_BYTES_MAX, 1),
        ([2 * ROUND_BYTES_MAX, 2 * ROUND_BYTES_MAX], 2 * ROUND_BYTES_MAX, 1),
    ],
)
async def test_a_round_has_a_bounded_number_of_bytes_copied(
    rounds: Any, autojump_clock: object, sizes: Sequence[int], copied: int, deferred: int
) -> None:
    made = rounds()
    for number, size_bytes in enumerate(sizes):
        made.planned.repair(number, made.peers[0], size_bytes=size_bytes)
    report = await made.round()
    assert (report.copied_bytes, report.deferred_tasks) == (copied, deferred)
    assert report.attempted_tasks == report.succeeded_tasks == len(sizes) - deferred


async def test_the_own_node_is_a_target_as_any_other(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    (cid,) = made.node.name(1)
    told: list[PeerId] = []
    made.node.holdings.prefer = lambda _cid, source: told.append(source)
    made.planned.repair(1, ME, source=made.peers[0])

    async def fetch() -> None:
        await trio.sleep(2.5)
        made.node.chain.blobs.put(data_of(1))
        made.node.table.mark_have([cid])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch)
        report = await made.round()
    assert (report.succeeded_tasks, told) == (1, [made.peers[0]])


async def test_the_own_node_gives_up_nothing_that_it_has_promised(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    (cid,) = made.node.name(1, here=True)
    await trio.sleep(SETTLED_S)
    made.node.holdings.pledge(cid)
    made.planned.release(1, ME)
    report = await made.round()
    assert not made.node.holdings.is_leaving(cid)
    assert (report.succeeded_tasks, report.under_way_tasks) == (0, 1)
    assert made.node.state(cid) is ContentState.HAVE


async def test_what_nobody_holds_is_sought_here(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    made.planned.nobody_holds = made.node.name(1, 2)
    await made.round()
    assert [made.node.state(cid) for cid in made.planned.nobody_holds] == [ContentState.WANTED] * 2
    assert made.rounds.counters["replicas.sought"] == 2


async def test_one_round_at_a_time(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    made.planned.repair(1, made.peers[0])
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(made.rounds.round)
    assert trio.current_time() - started == pytest.approx(3 * CONFIRM_EVERY_S)
    assert made.rounds.counters["replicas.rounds"] == 3


async def test_a_dry_run_asks_for_nothing_and_waits_for_its_turn(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    task = made.planned.repair(1, made.peers[0])
    plan, _look = await made.rounds.dry_run()
    assert plan.repair_tasks == (task,)
    assert made.node.asked == []
    assert (made.planned.rehearsed, made.rounds.last) == (1, None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.rounds.round)
        await trio.sleep(CONFIRM_EVERY_S / 2)
        await made.rounds.dry_run()
        assert made.rounds.last is not None, "the round was over first"


async def test_a_round_comes_with_every_interval(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    assert made.rounds.next_at_ms == 0
    interval_s = CONFIG.poll_interval_ms / 1_000
    with trio.move_on_after(3.5 * interval_s):
        await made.rounds.run()
    assert made.rounds.counters["replicas.rounds"] == 3
    assert made.rounds.next_at_ms == made.node.clock.wall_ms() + interval_s / 2 * 1_000


async def test_the_status_tells_of_the_last_round(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    assert made.rounds.status() == {"next_round_at_ms": 0, "cursor": None, "passes": 7, "last_round": None}
    made.planned.cursor = named(5)
    for keeper in made.node.others.values():
        keeper.on[ReplicaAsk.HOLD] = refusing("R8")
    for number in range(FAILED_SHOWN + 3):
        made.planned.repair(number, made.peers[0])
    await made.round()
    status = made.rounds.status()
    assert status["cursor"] == str(named(5))
    report = status["last_round"]["report"]
    assert report["attempted_tasks"] == FAILED_SHOWN + 3
    assert len(report["failed_tasks"]) == FAILED_SHOWN
    rows = [row["task"] for row in report["failed_tasks"]]
    assert {row["error"] for row in report["failed_tasks"]} == {"ERR_BUSY: no"}
    assert {(row["kind"], row["source"], row["target"]) for row in rows} == {("repair", ME, made.peers[0])}
    assert {row["content"] for row in rows} < {str(named(number)) for number in range(FAILED_SHOWN + 3)}


async def test_a_plan_is_shown_with_how_many_have_how_many_copies(rounds: Any, autojump_clock: object) -> None:
    made = rounds()
    made.planned.release(1, made.peers[0])
    made.planned.move(2, made.peers[0], source=made.peers[1])
    plan, look = await made.planned.plan()
    records = [ProviderRecord(provider_id=peer, last_seen_ms=0) for peer in made.peers]
    look = attrs.evolve(
        look,
        holders={named(1).digest: records, named(2).digest: records[:3], named(3).digest: records[:2]},
        doubted=4,
    )
    shown = shown_plan(attrs.evolve(plan, warnings=("a warning",)), look, TARGET)
    assert shown["contents_by_copies"] == {"2": 1, "3": 1, "5": 1}
    assert (shown["looked_at"], shown["below_target"], shown["claims_doubted"]) == (2, 1, 4)
    assert shown["release_tasks"] == [{"kind": "release", "content": str(named(1)), "holder": made.peers[0]}]
    assert [task["kind"] for task in shown["rebalance_tasks"]] == ["rebalance"]
    assert (shown["repair_tasks"], shown["warnings"]) == ([], ["a warning"])
    assert shown_task(plan.rebalance_tasks[0], look)["target"] == made.peers[0]
