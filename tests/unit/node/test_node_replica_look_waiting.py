"""Whom a planner waits for, for how long, and when the next by weight step in (3.10)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from keepers import ME, Keeper, refusing

from agent_world.errors import ErrorCode
from agent_world.node import replica_look
from agent_world.node.replica_look import (
    FETCHING_LOOKS,
    UNWILLING_ROUNDS,
    WAIT_LOOKS,
)
from agent_world.wire.hello import Role
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import Holding, ReplicaAsk


@pytest.mark.parametrize("rank", [0, 1, 2])
async def test_the_next_by_weight_step_in_when_a_content_stays_short(
    looking: Any, autojump_clock: object, rank: int
) -> None:
    made = looking()
    a, b, c, *_ = made.peers
    cid = made.content(a, b, rank=rank)
    assert [bool(await made.repairs()) for _ in range(4)] == [look >= rank for look in range(4)]
    made.node.others[c].holdings[cid] = Holding.HELD
    assert await made.repairs() == []
    made.node.others[c].holdings[cid] = Holding.NAMED
    assert [bool(await made.repairs()) for _ in range(3)] == [look >= rank for look in range(3)], "counted anew"


async def test_the_next_by_weight_give_nothing_up_and_move_nothing(looking: Any, autojump_clock: object) -> None:
    made = looking()
    made.content(*made.peers, rank=1)
    made.content(*made.peers, rank=2)
    for _ in range(4):
        plan, _look = await made.looker.plan()
        assert plan.release_tasks == ()


async def test_what_is_remembered_as_short_is_bounded(
    looking: Any, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_look, "SHORT_MAX", 3)
    made = looking()
    for _ in range(5):
        made.content(rank=2)
    await made.looker.plan()
    assert made.looker.counters["replicas.short_forgotten"] == 2
    assert len(made.looker._short) == 3


async def test_who_is_silent_is_waited_for_once(looking: Any, autojump_clock: object) -> None:
    made = looking()
    a, b, c, *_ = made.peers
    cid = made.content(a, b, c)
    assert await made.repairs() == []
    made.silence(a)
    assert await made.repairs() == []
    made.node.others[a].on.clear()
    assert await made.repairs() == [], "it is back"
    made.silence(a)
    assert await made.repairs() == [], "and waited for again"
    assert [task[0] for task in await made.repairs()] == [cid]
    assert made.node.asker.counters["replicas.no_status.ERR_TIMEOUT"] == 3


async def test_who_has_gone_is_waited_for_once(looking: Any, autojump_clock: object) -> None:
    made = looking()
    a, b, c, *_ = made.peers
    cid = made.content(a, b, c, rank=0)
    await made.looker.plan()
    del made.node.hellos[a]
    assert made.node.holdings.may_plan(ME, cid)
    assert [bool(await made.repairs()) for _ in range(3)] == [False, True, True]


async def test_one_that_is_silent_is_not_waited_for_when_more_are_missing(looking: Any, autojump_clock: object) -> None:
    made = looking()
    a, b, *_ = made.peers
    cid = made.content(a)
    made.silence(b)
    assert [task[0] for task in await made.repairs()] == [cid, cid], "if it holds one, another is needed all the same"


async def test_nodes_that_come_and_say_nothing_keep_no_content_short(looking: Any, autojump_clock: object) -> None:
    """Another one in each round, each of which would be waited for once."""
    made = looking()
    a, b, *_ = made.peers
    made.content(a, b)
    planned = []
    for number in range(WAIT_LOOKS + 3):
        for peer in [peer for peer in made.node.hellos if peer.startswith("stranger")]:
            del made.node.hellos[peer]
        stranger = PeerId(f"stranger {number}")
        made.node.others[stranger] = Keeper(on={ReplicaAsk.STATUS: refusing("", ErrorCode.TIMEOUT)})
        made.node.hellos[stranger] = SimpleNamespace(role=Role.STORAGE)
        if not made.node.holdings.may_plan(ME, next(iter(made.node.table.named_after(None, 1))).cid):
            continue
        planned.append(bool(await made.repairs()))
    assert planned[:WAIT_LOOKS] == [False] * WAIT_LOOKS
    assert planned[-1]
    assert len(made.looker._uncertain) <= 2, "who has gone is forgotten"


async def test_who_says_for_ever_that_it_is_fetching_is_not_waited_for(looking: Any, autojump_clock: object) -> None:
    made = looking()
    a, b, c, *_ = made.peers
    cid = made.content(a, b)
    made.node.others[c].holdings[cid] = Holding.COMING
    for _ in range(FETCHING_LOOKS):
        assert await made.repairs() == []
    ((content, _source, target),) = await made.repairs()
    assert content == cid
    assert target not in {a, b, c}, "and not asked for it again"
    made.node.others[c].holdings[cid] = Holding.NAMED
    await made.looker.plan()
    made.node.others[c].holdings[cid] = Holding.COMING
    assert await made.repairs() == [], "counted anew"


async def test_what_is_remembered_of_who_fetches_is_bounded(
    looking: Any, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_look, "FETCHING_MAX", 2)
    made = looking()
    for _ in range(5):
        made.node.others[made.peers[0]].holdings[made.content()] = Holding.COMING
    await made.looker.plan()
    assert made.looker.counters["replicas.fetching_forgotten"] == 3
    assert len(made.looker._fetching) == 2


async def test_who_has_refused_is_not_asked_for_it_again_for_ten_rounds(looking: Any, autojump_clock: object) -> None:
    made = looking()
    a, b, *_ = made.peers
    cid, other = made.content(a, b), made.content(a, b)
    for _ in range(2):  # it may have refused before
        targets = {content: target for content, _source, target in await made.repairs()}
        made.looker.refused(targets[cid], cid.digest)
    first = targets[cid]
    for _ in range(UNWILLING_ROUNDS - 1):
        plan, look = await made.looker.plan()
        assert first in look.views[cid.digest].unwilling
        assert look.views[other.digest].unwilling == frozenset()
        assert first not in {task.target_provider_id for task in plan.repair_tasks if task.content_hash == cid.digest}
    _plan, look = await made.looker.plan()
    assert first not in look.views[cid.digest].unwilling


async def test_refusals_are_bounded(looking: Any, autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_look, "UNWILLING_MAX", 2)
    made = looking()
    cid = made.content()
    for peer in made.peers[:3]:
        made.looker.refused(peer, cid.digest)
    _plan, look = await made.looker.plan()
    assert look.views[cid.digest].unwilling == set(made.peers[1:3])
    assert made.looker.counters["replicas.unwilling_forgotten"] == 1


async def test_what_nobody_holds_is_not_sought_while_somebody_is_waited_for(
    looking: Any, autojump_clock: object
) -> None:
    made = looking()
    cid = made.content(made.peers[0])
    await made.looker.plan()
    made.silence(made.peers[0])
    _plan, look = await made.looker.plan()
    assert made.looker.orphans(look) == []
    _plan, look = await made.looker.plan()
    assert made.looker.orphans(look) == [cid]
