"""What a storage node takes, answers and promises (K-3.5 to K-3.7): every branch, every bound, every counter."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import attrs
import pytest
import trio
from keepers import CONFIG, ME, QUOTA, SETTLED_S, TARGET, KeeperNode, data_of, named, named_where, ranked

from agent_world.config import ReplicasConfig
from agent_world.crypto.hashing import content_hash
from agent_world.distfs.replicas import first_by_weight
from agent_world.errors import ErrorCode, Refused
from agent_world.node.holdings import (
    GATHER_MS,
    LEAVING_MAX,
    MEET_MS,
    NEW_MS,
    PLANNERS_MAX,
    PLEDGE_MS,
    PLEDGES_MAX,
)
from agent_world.store.content import NEVER_MS, ContentState
from agent_world.store.pins import Pin, PinTable
from agent_world.testing.node_swarm import WORLD_ID
from agent_world.wire.cid import Cid
from agent_world.wire.hello import Role
from agent_world.wire.ids import PeerId, TimeMs
from agent_world.wire.replica import Holding

Make = Callable[..., KeeperNode]
KEEPS_ALL = ReplicasConfig(target_replicas_per_blob=0)


def pin(node: KeeperNode, cid: Cid) -> None:
    PinTable(node.chain.home).put(Pin(name="mine", cid=cid, made_ms=TimeMs(0)))


async def test_members_are_the_linked_storage_nodes_and_this_one_if_it_stores(
    keeper_node: Make, autojump_clock: object
) -> None:
    node = keeper_node(others=3)
    sequencer = PeerId("a sequencer")
    node.hellos[sequencer] = SimpleNamespace(role=Role.SEQUENCER)
    assert node.holdings.members() == sorted([ME, *node.others])
    assert (node.holdings.world_id, node.holdings.own_id, node.holdings.target) == (WORLD_ID, ME, TARGET)
    assert [node.holdings.is_storage(peer) for peer in (*node.others, sequencer, ME, PeerId("nobody"))] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    observer = keeper_node(role=Role.OBSERVER, others=2)
    assert observer.holdings.members() == sorted(observer.others)
    assert not observer.holdings.takes_part()


async def test_the_first_three_by_weight_may_plan(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node(others=5)
    members = node.holdings.members()
    may = [peer for peer in members if node.holdings.may_plan(peer, named(1))]
    assert sorted(may) == sorted(first_by_weight(named(1).digest, members, PLANNERS_MAX))
    assert not node.holdings.may_plan(PeerId("a stranger"), named(1))


@pytest.mark.parametrize(
    ("config", "role", "left"),
    [(CONFIG, Role.STORAGE, True), (KEEPS_ALL, Role.STORAGE, False), (CONFIG, Role.OBSERVER, False)],
)
async def test_who_takes_no_part_leaves_nothing_to_others_any_more(
    keeper_node: Make, autojump_clock: object, config: ReplicasConfig, role: Role, left: bool
) -> None:
    node = keeper_node(config, role)
    (cid,) = node.name(1)
    node.holdings.begin()
    assert node.state(cid) is (ContentState.NAMED if left else ContentState.WANTED)
    node.holdings.named({named(2): 5}, node.clock.wall_ms())
    assert (node.table.get(named(2)) is not None) is left
    await trio.sleep(MEET_MS / 1_000)
    assert [item.cid for item in node.holdings.undecided(10)] == ([named(2)] if left else [])


async def test_a_node_that_has_just_started_waits_for_the_others(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node(others=TARGET - 1)
    node.holdings.named({}, 0)
    node.holdings.named({named(1): 5, named(2): 5}, node.clock.wall_ms())
    await trio.sleep(GATHER_MS / 1_000 - 0.001)
    assert node.holdings.undecided(10) == ()
    await trio.sleep(0.001)
    assert {item.cid for item in node.holdings.undecided(10)} == {named(1), named(2)}
    assert len(node.holdings.undecided(1)) == 1
    node.hellos.popitem()
    assert node.holdings.undecided(10) == (), "fewer than the target are known: others may still come"
    await trio.sleep((MEET_MS - GATHER_MS) / 1_000)
    assert len(node.holdings.undecided(10)) == 2
    node.table.leave([named(1)])
    assert [item.cid for item in node.holdings.undecided(10)] == [named(2)]


async def test_new_content_is_taken_by_the_first_by_weight(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node(others=4)
    members = node.holdings.members()
    for rank in range(5):
        (number,) = named_where(ranked(rank, among=members))
        node.holdings.named({named(number): 5}, node.clock.wall_ms())
        node.holdings.decide(node.row(named(number)), is_here=False)
        row = node.row(named(number))
        if rank < TARGET:
            assert row.state is ContentState.WANTED
        else:
            assert (row.state, row.next_try_ms) == (ContentState.NAMED, NEVER_MS)
    assert dict(node.holdings.counters) == {"replicas.taken": 3, "replicas.left": 2}


@pytest.mark.parametrize(
    ("poll_ms", "ago_ms", "taken"),
    [
        (5_000, NEW_MS - 1, True),
        (5_000, NEW_MS, False),
        (60_000, 2 * 60_000 - 1, True),
        (60_000, 2 * 60_000, False),
    ],
)
async def test_content_named_long_ago_is_left_to_planners(
    keeper_node: Make, autojump_clock: object, poll_ms: int, ago_ms: int, taken: bool
) -> None:
    node = keeper_node(attrs.evolve(CONFIG, poll_interval_ms=poll_ms), others=4)
    (number,) = named_where(ranked(0, among=node.holdings.members()))
    node.holdings.named({named(number): 5}, node.clock.wall_ms() - ago_ms)
    node.holdings.decide(node.row(named(number)), is_here=False)
    assert (node.state(named(number)) is ContentState.WANTED) is taken


async def test_with_fewer_nodes_than_copies_everybody_takes_everything(
    keeper_node: Make, autojump_clock: object
) -> None:
    node = keeper_node(others=TARGET - 2)
    node.holdings.named({named(1): 5}, node.clock.wall_ms() - 100 * NEW_MS)
    node.holdings.decide(node.row(named(1)), is_here=False)
    assert node.state(named(1)) is ContentState.WANTED


async def test_what_does_not_fit_is_left_and_what_is_here_is_taken(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node(quota_bytes=100)
    for number, size in ((1, 100), (2, 101), (3, 1_000)):
        node.holdings.named({named(number): size}, node.clock.wall_ms())
    node.holdings.decide(node.row(named(2)), is_here=False)
    assert (node.state(named(2)), node.row(named(2)).next_try_ms) == (ContentState.NAMED, NEVER_MS)
    node.holdings.decide(node.row(named(1)), is_here=False)
    assert node.state(named(1)) is ContentState.WANTED, "the last octet counts"
    node.holdings.decide(node.row(named(3)), is_here=True)
    assert node.state(named(3)) is ContentState.WANTED, "or nobody would know of this copy"


async def test_what_is_to_be_held_is_fetched_from_who_has_it(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node(others=1)
    told: list[tuple[Cid, PeerId]] = []
    node.holdings.hold(named(9), PeerId("x"))
    assert node.table.get(named(9)) is None, "content that the world does not name"
    node.holdings.prefer = lambda cid, source: told.append((cid, source))
    left, kept = node.name(1)[0], node.name(2, here=True)[0]
    node.holdings.hold(left, PeerId("x"))
    node.holdings.hold(left, None)
    node.holdings.hold(kept, PeerId("y"))
    assert told == [(left, PeerId("x")), (kept, PeerId("y"))]
    assert (node.state(left), node.state(kept)) == (ContentState.WANTED, ContentState.HAVE)
    assert dict(node.holdings.counters) == {"replicas.taken_on_request": 1}


async def test_everything_counts_as_promised_after_a_start(keeper_node: Make, autojump_clock: object) -> None:
    """Promises are not remembered over a restart."""
    node = keeper_node()
    await trio.sleep(PLEDGE_MS / 1_000 - 0.001)
    assert node.holdings.is_pledged(named(1))
    await trio.sleep(0.001)
    assert not node.holdings.is_pledged(named(1))


async def test_a_promise_lasts_thirty_seconds_from_the_last_time(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node()
    (cid,) = node.name(1, here=True)
    await trio.sleep(SETTLED_S)
    assert node.says(cid) is Holding.HELD
    node.holdings.pledge(cid)
    assert node.says(cid) is Holding.BOUND
    await trio.sleep(20)
    node.holdings.pledge(cid)
    await trio.sleep(PLEDGE_MS / 1_000 - 0.001)
    assert node.holdings.is_pledged(cid)
    await trio.sleep(0.001)
    assert not node.holdings.is_pledged(cid)
    assert node.says(cid) is Holding.HELD


async def test_promises_are_bounded_and_make_room_when_they_are_over(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node()
    for number in range(PLEDGES_MAX):
        node.holdings.pledge(named(number))
    with pytest.raises(Refused, match="too many copies") as caught:
        node.holdings.pledge(named(PLEDGES_MAX))
    assert (caught.value.code, caught.value.rule) == (ErrorCode.BUSY, "R6")
    assert node.holdings.counters["replicas.pledges_refused"] == 1
    await trio.sleep(10)
    node.holdings.pledge(named(0))  # what is promised already takes no further place
    await trio.sleep(PLEDGE_MS / 1_000 - 10)
    node.holdings.pledge(named(PLEDGES_MAX))
    assert [node.holdings.is_pledged(named(number)) for number in (0, 1, PLEDGES_MAX)] == [True, False, True]
    assert node.holdings.counters["replicas.pledges_refused"] == 1


async def test_what_waits_to_be_given_up_is_bounded(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node()
    told: list[None] = []
    node.holdings.leave_soon = lambda: told.append(None)
    assert all(node.holdings.release(named(number)) for number in range(LEAVING_MAX))
    assert not node.holdings.release(named(LEAVING_MAX))
    assert node.holdings.release(named(0)), "it waits already"
    assert len(told) == LEAVING_MAX + 1
    assert node.holdings.is_leaving(named(0))
    assert not node.holdings.is_leaving(named(LEAVING_MAX))
    assert dict(node.holdings.counters) == {"replicas.leaving_refused": 1}


async def test_used_is_what_is_here_and_coming_without_what_was_given_up(
    keeper_node: Make, autojump_clock: object
) -> None:
    node = keeper_node()
    size = len(data_of(1))
    before = node.holdings.used_bytes()
    one, two = node.name(1, 2, here=True)
    assert node.holdings.used_bytes() == before + 2 * size
    (three,) = node.name(3)
    assert node.holdings.used_bytes() == before + 2 * size, "what is left to others takes no room"
    node.holdings.hold(three, None)
    assert node.holdings.used_bytes() == before + 3 * size
    node.table.mark_fetching(three, 500, node.clock.wall_ms())
    assert node.holdings.used_bytes() == before + 2 * size + 500
    node.chain.blobs.put(bytes(100))
    node.table.mark_progress(three, 100)
    assert node.holdings.used_bytes() == before + 2 * size + 500, "a chunk that has come is no more to come"
    node.chain.blobs.delete_many([content_hash(bytes(100))])
    node.table.mark_progress(three, 0)
    node.table.give_up(one)
    node.own.discard([one.digest])
    assert node.holdings.used_bytes() == before + size + 500
    node.table.give_up(three)
    node.own.discard([two.digest])
    assert node.holdings.used_bytes() == before


async def test_room_is_the_quota_and_for_a_relief_an_idle_node(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node(quota_bytes=QUOTA)
    most = QUOTA * CONFIG.rebalance_target_load_max_per_mille // 1_000
    node.holdings.named({named(1): most - node.holdings.used_bytes(), named(2): 1}, node.clock.wall_ms())
    node.holdings.hold(named(1), None)
    assert node.holdings.has_room(named(2), is_relief=True)
    node.holdings.hold(named(2), None)
    assert not node.holdings.has_room(named(3), is_relief=True)
    assert node.holdings.has_room(named(3), is_relief=False), "of an unknown size"
    node.holdings.named({named(4): QUOTA - node.holdings.used_bytes()}, node.clock.wall_ms())
    node.holdings.named({named(5): QUOTA - node.holdings.used_bytes() + 1}, node.clock.wall_ms())
    assert node.holdings.has_room(named(4), is_relief=False)
    assert not node.holdings.has_room(named(5), is_relief=False)


async def test_what_a_node_says_of_each_content(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node()
    await trio.sleep(SETTLED_S)
    wall_ms = node.clock.wall_ms()
    left, wanted, fetching, lost = node.name(1, 2, 3, 4)
    held, pinned = node.name(5, 6, here=True)
    undecided, unnamed = named(7), named(8)
    node.holdings.named({undecided: 5}, wall_ms)
    node.table.want([(unnamed, 5)], wall_ms)
    for cid in (wanted, fetching, lost):
        node.table.take_up(cid, wall_ms)
    node.table.mark_fetching(fetching, 5, wall_ms)
    for _ in range(100):
        if node.table.mark_failed(lost, "nobody has it", wall_ms) is ContentState.UNAVAILABLE:
            break
    pin(node, pinned)
    asked = [held, left, undecided, wanted, fetching, lost, pinned, unnamed, named(99)]
    assert node.holdings.answer(asked).holdings == (
        Holding.HELD, Holding.NAMED, Holding.COMING, Holding.COMING, Holding.COMING, Holding.NAMED, Holding.BOUND,
        Holding.UNKNOWN, Holding.UNKNOWN,
    )  # fmt: skip


async def test_what_has_gone_behind_the_nodes_back_is_fetched_again(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node()
    gone, kept = node.name(1, 2, here=True)
    await trio.sleep(SETTLED_S)
    node.chain.blobs.delete_many([gone.digest])
    assert node.holdings.answer([gone, kept]).holdings == (Holding.COMING, Holding.HELD)
    assert (node.state(gone), node.holdings.counters["storage.lost"]) == (ContentState.WANTED, 1)
    assert node.says(gone) is Holding.COMING
    assert node.holdings.counters["storage.lost"] == 1, "it is lost once"


@pytest.mark.parametrize("role", [Role.STORAGE, Role.OBSERVER])
async def test_who_keeps_everything_gives_nothing_up_and_others_say_nothing(
    keeper_node: Make, autojump_clock: object, role: Role
) -> None:
    node = keeper_node(KEEPS_ALL, role)
    await trio.sleep(SETTLED_S)
    here, coming = node.name(1, here=True)[0], node.name(2)[0]
    node.holdings.begin()
    node.chain.blobs.put(data_of(3))
    said = node.holdings.answer([here, coming, named(3), named(4)])
    assert said.target == 0
    if role is Role.STORAGE:
        assert said.holdings == (Holding.BOUND, Holding.COMING, Holding.BOUND, Holding.UNKNOWN)
    else:
        assert said.holdings == (Holding.UNKNOWN,) * 4


async def test_room_in_an_answer_is_never_below_nothing(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node(quota_bytes=10)
    node.name(1, here=True)
    said = node.holdings.answer([])
    assert (said.quota_bytes, said.free_bytes, said.target, said.holdings) == (10, 0, TARGET, ())


async def test_an_answer_about_many_contents_asks_the_database_a_few_times(
    keeper_node: Make, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = keeper_node()
    cids = node.name(*range(500), here=True)
    asked: list[str] = []
    database = node.chain.home.database
    query = database.query

    def counted(sql: str, parameters: tuple[object, ...] = ()) -> object:
        asked.append(sql)
        return query(sql, parameters)

    monkeypatch.setattr(database, "query", counted)
    assert set(node.holdings.answer(cids).holdings) == {Holding.BOUND}
    assert len(asked) < 10, asked
