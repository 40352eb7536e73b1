"""What a planner finds out of who keeps what, and what it plans (3.10)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
from keepers import CONFIG, ME, QUOTA, TARGET, Keeper, data_of, late

from agent_world.distfs.replicas import ReplicaReleaseTask, TransferKind
from agent_world.net.reputation import Offence
from agent_world.node import replica_look
from agent_world.node.replica_look import (
    BEYOND_MAX,
)
from agent_world.store.content import ContentState
from agent_world.wire.cid import Cid
from agent_world.wire.hello import Role
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import Holding, ReplicaAsk, ReplicaRequest


async def test_who_holds_what_and_what_is_short_is_planned(looking: Any, autojump_clock: object) -> None:
    made = looking()
    a, b, c, *_ = made.peers
    enough, short = made.content(a, b, c), made.content(a, b)
    plan, look = await made.looker.plan()
    assert made.holders(look, enough) == {a, b, c}
    assert made.holders(look, short) == {a, b}
    (task,) = plan.repair_tasks
    assert (task.content_hash, task.kind) == (short.digest, TransferKind.REPAIR)
    assert task.source_provider_id in {a, b}
    assert task.target_provider_id not in {a, b}
    assert (plan.rebalance_tasks, plan.release_tasks, look.doubted) == ((), (), 0)
    assert {record.provider_id for record in look.pool} == {ME, *made.peers}
    assert look.contents[short.digest].size_bytes == len(data_of(1))


async def test_a_copy_too_many_is_given_up_one_in_a_round(looking: Any, autojump_clock: object) -> None:
    made = looking()
    cid = made.content(*made.peers)
    plan, look = await made.looker.plan()
    (task,) = plan.release_tasks
    assert isinstance(task, ReplicaReleaseTask)
    assert task.holder_id in made.peers
    assert made.holders(look, cid) == set(made.peers)


async def test_nothing_is_asked_about_nothing(looking: Any, autojump_clock: object) -> None:
    made = looking()
    plan, look = await made.looker.plan()
    assert (plan.repair_tasks, look.contents, look.pool, made.node.asked) == ((), {}, [], [])
    assert (made.looker.passes, made.looker.cursor) == (1, None)


async def test_only_the_first_three_by_weight_look_at_a_content(looking: Any, autojump_clock: object) -> None:
    made = looking()
    cids = [made.content(rank=rank) for rank in range(6)]
    _plan, look = await made.looker.plan()
    assert {row.cid for row in look.contents.values()} == set(cids[:3])


async def test_all_contents_have_their_turn(looking: Any, autojump_clock: object) -> None:
    made = looking(config=attrs.evolve(CONFIG, max_content_hash_samples_per_round=7))
    cids = sorted((made.content(rank=number % 4) for number in range(40)), key=Cid.to_bytes)
    mine = [cid for cid in cids if made.node.holdings.may_plan(ME, cid)]
    assert len(mine) == 30
    seen: list[Cid] = []
    while not made.looker.passes:
        _plan, look = await made.looker.plan()
        assert len(look.contents) <= 7
        seen += [row.cid for row in look.contents.values()]
    assert seen == mine
    assert made.looker.cursor is None
    _plan, look = await made.looker.plan()
    assert [row.cid for row in look.contents.values()] == mine[:7], "and again from the first"


async def test_a_round_looks_through_a_bounded_number_of_rows(
    looking: Any, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_look, "PAGE", 4)
    monkeypatch.setattr(replica_look, "PAGES_MAX", 2)
    made = looking()
    for _ in range(20):
        made.content(rank=5)
    await made.looker.plan()
    assert made.looker.passes == 0
    rows = made.node.table.named_after(None, 100)
    assert made.looker.cursor == rows[7].cid
    await made.looks(2)
    assert (made.looker.passes, made.looker.cursor) == (1, None)


async def nonsense(_request: ReplicaRequest) -> bytes:
    return b"\xff"


async def fewer(_request: ReplicaRequest) -> bytes:
    return Keeper().say([])


async def too_free(_request: ReplicaRequest) -> bytes:
    return Keeper(free_bytes=QUOTA + 1).say([Holding.HELD] * len(_request.contents))


@pytest.mark.parametrize("answer", [nonsense, fewer, too_free])
async def test_a_wrong_answer_is_none_and_held_against_its_peer(
    looking: Any, autojump_clock: object, answer: Any
) -> None:
    made = looking()
    a, b, c, *_ = made.peers
    cid = made.content(a, b, c)
    made.node.others[a].on[ReplicaAsk.STATUS] = answer
    assert await made.repairs() == [], "it is waited for once, as one that is silent"
    ((content, source, target),) = await made.repairs()
    assert (content, source in {b, c}, target in {a, b, c}) == (cid, True, False)
    assert made.node.blamed == [(a, Offence.GARBAGE)] * 2


async def test_a_rehearsal_leaves_everything_as_it_was(looking: Any, autojump_clock: object) -> None:
    made = looking(config=attrs.evolve(CONFIG, max_content_hash_samples_per_round=1))
    a, b, *_ = made.peers
    cids = {made.content(a, b, rank=1), made.content(a, b, rank=1)}
    made.looker.refused(a, next(iter(cids)).digest)

    def memory() -> dict[str, Any]:
        held = {name: value for name, value in vars(made.looker).items() if not name.startswith(("_checks", "check_"))}
        return {name: value.copy() if hasattr(value, "copy") else value for name, value in held.items()}

    await made.looker.plan()
    before = memory()
    for _ in range(12):
        _plan, look = await made.looker.rehearse()
        assert memory() == before
    _plan, again = await made.looker.plan()
    assert list(look.contents) == list(again.contents), "the next round begins where the rehearsal has"
    assert memory() != before


async def test_a_rehearsal_that_is_cut_off_leaves_everything_too(looking: Any, autojump_clock: object) -> None:
    made = looking()
    made.content(made.peers[0])
    made.node.others[made.peers[0]].on[ReplicaAsk.STATUS] = late(10)
    with trio.move_on_after(1):
        await made.looker.rehearse()
    assert (made.looker.cursor, made.looker.passes, made.looker._round) == (None, 0, 0)


async def test_holders_that_are_no_neighbours_are_found_in_the_dht(looking: Any, autojump_clock: object) -> None:
    made = looking()
    a, b, *_ = made.peers
    cid = made.content(a, b)
    far = PeerId("far away")
    made.node.others[far] = Keeper(holdings={cid: Holding.HELD})
    made.node.in_dht[cid.digest] = [far, a]
    assert await made.repairs() != [], "it is connected, and has not said that it stores"

    hellos = made.node.hellos

    class Greeted(dict):  # type: ignore[type-arg]
        """The far node says hello when it is connected for the question, and is no member."""

        def get(self, peer: PeerId, default: Any = None) -> Any:
            return SimpleNamespace(role=Role.STORAGE) if peer == far else hellos.get(peer, default)

    object.__setattr__(made.node.holdings._parts.peering, "hellos", Greeted(hellos))
    plan, look = await made.looker.plan()
    assert plan.repair_tasks == ()
    assert made.holders(look, cid) == {a, b, far}
    assert far not in {record.provider_id for record in look.pool}, "a holder and no more: no copy is sent there"


async def test_providers_of_a_bounded_number_of_contents_are_looked_for(looking: Any, autojump_clock: object) -> None:
    made = looking()
    for _ in range(BEYOND_MAX + 3):
        made.content()
    sought: list[int] = []
    providers = made.node.providers

    def counted(contents: Any) -> Any:
        sought.append(len(contents))
        return providers(contents)

    made.looker._outside = attrs.evolve(made.looker._outside, providers=counted)
    await made.looker.plan()
    assert sought == [BEYOND_MAX]


async def test_the_load_is_what_nodes_say_of_themselves(looking: Any, autojump_clock: object) -> None:
    made = looking()
    a, b, *_ = made.peers
    made.node.others[a].free_bytes = QUOTA // 4
    made.node.others[b].quota_bytes = made.node.others[b].free_bytes = 0
    made.content()
    _plan, look = await made.looker.plan()
    records = {record.provider_id: record for record in look.pool}
    assert (records[a].load_ratio_per_mille, records[a].storage_available_bytes) == (750, QUOTA // 4)
    assert records[b].load_ratio_per_mille == 1_000
    assert records[a].last_seen_ms == made.node.clock.wall_ms()


async def test_a_claim_that_is_not_made_good_counts_as_no_copy(looking: Any, autojump_clock: object) -> None:
    made = looking()
    a, b, c, *_ = made.peers
    cid = made.content(a, b, c)
    made.node.others[a].shows = lambda _cid: "failed"
    plan, look = await made.looker.plan()
    assert (made.holders(look, cid), look.doubted) == ({b, c}, 1)
    (task,) = plan.repair_tasks
    assert task.source_provider_id in {b, c}
    assert made.looker.check_counters["replicas.checked.failed"] >= 1


async def test_what_nobody_holds_is_sought_by_who_plans_for_it(looking: Any, autojump_clock: object) -> None:
    made = looking()
    gone, second = made.content(), made.content(rank=1)
    held, coming = made.content(made.peers[0]), made.content()
    made.node.others[made.peers[0]].holdings[coming] = Holding.COMING
    wanted, sought = made.content(), made.content()
    for cid in (wanted, sought):
        made.node.holdings.hold(cid, None)
    while made.node.state(sought) is not ContentState.UNAVAILABLE:
        made.node.table.mark_failed(sought, "nobody has it", 0)
    _plan, look = await made.looker.plan()
    assert made.looker.orphans(look) == [gone]
    _plan, look = await made.looker.plan()
    assert set(made.looker.orphans(look)) == {gone, second}
    assert held not in made.looker.orphans(look)


async def test_the_own_copy_counts_and_is_not_challenged(looking: Any, autojump_clock: object) -> None:
    made = looking()
    await trio.sleep(60)
    a, b, *_ = made.peers
    cid = made.content(a, b, here=True)
    plan, look = await made.looker.plan()
    assert made.holders(look, cid) == {ME, a, b}
    assert plan.repair_tasks == ()
    assert {peer for peer, _cid in made.node.challenged} == {a, b}


async def test_fewer_nodes_than_copies_are_told_of(looking: Any, autojump_clock: object) -> None:
    made = looking(others=TARGET - 2)
    cid = made.content(*made.peers)
    plan, _look = await made.looker.plan()
    assert [task.target_provider_id for task in plan.repair_tasks] == [ME]
    assert plan.warnings == (f"{cid.digest.hex()}: 2 copies are needed, 1 are planned",)
