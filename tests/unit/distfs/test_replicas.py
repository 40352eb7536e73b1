"""Planning of copies (T-3.11, K-3.5 to K-3.7): repairs, moves, warnings, and who plans for what."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.providers import ProviderRecord
from agent_world.distfs.replicas import (
    ContentView,
    ReplicaMaintenancePolicy,
    ReplicaReleaseTask,
    ReplicaTransferTask,
    TransferKind,
    first_by_weight,
    plan_replicas,
    responsible,
    weight,
)
from agent_world.errors import UsageError
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId

NOW = 1_000
CONTENTS = [content_hash(b"content %d" % number) for number in range(40)]
NODES = [PeerId(f"node {number}") for number in range(6)]


def node(number: int, load: int | None = None, **known: Any) -> ProviderRecord:
    return ProviderRecord(provider_id=NODES[number], last_seen_ms=NOW, load_ratio_per_mille=load, **known)


def test_what_too_few_hold_gets_copies_at_nodes_that_lack_it() -> None:
    plan = plan_replicas({CONTENTS[0]: [node(0)]}, [node(1), node(2), node(3)], ReplicaMaintenancePolicy(), NOW)
    assert len(plan.repair_tasks) == 2
    assert {task.source_provider_id for task in plan.repair_tasks} == {NODES[0]}
    assert {task.target_provider_id for task in plan.repair_tasks} <= {NODES[1], NODES[2], NODES[3]}
    assert {task.kind for task in plan.repair_tasks} == {TransferKind.REPAIR}
    assert (plan.rebalance_tasks, plan.warnings) == ((), ())


def test_a_single_provider_without_candidates_is_a_warning() -> None:
    plan = plan_replicas({CONTENTS[0]: [node(0)]}, [], ReplicaMaintenancePolicy(), NOW)
    assert (plan.repair_tasks, len(plan.warnings)) == ((), 1)
    assert "2 copies are needed, 0 are planned" in plan.warnings[0]
    plan = plan_replicas({CONTENTS[0]: []}, [node(1)], ReplicaMaintenancePolicy(), NOW)
    assert "no source" in plan.warnings[0]


def test_the_best_holder_is_the_source_and_full_or_loaded_nodes_are_no_targets() -> None:
    holders = {CONTENTS[0]: [node(0, 900), node(1, 10, challenge_pass_ratio_per_mille=1_000)]}
    candidates = [node(2, 10, storage_available_bytes=0), node(3, 990), node(4, 10)]
    plan = plan_replicas(holders, candidates, ReplicaMaintenancePolicy(), NOW)
    (task,) = plan.repair_tasks
    assert (task.source_provider_id, task.target_provider_id) == (NODES[1], NODES[4])
    more = plan_replicas(holders, candidates, ReplicaMaintenancePolicy(target_replicas_per_blob=4), NOW)
    assert [task.target_provider_id for task in more.repair_tasks] == [NODES[4], NODES[3]]


def test_a_loaded_holder_is_relieved_by_an_idle_node_and_by_nobody_else() -> None:
    policy = ReplicaMaintenancePolicy(target_replicas_per_blob=2)
    holders = {CONTENTS[0]: [node(0, 900), node(1, 950)]}
    (task,) = plan_replicas(holders, [node(2, 400), node(3, 100)], policy, NOW).rebalance_tasks
    assert task == ReplicaTransferTask(
        kind=TransferKind.REBALANCE, content_hash=CONTENTS[0], source_provider_id=NODES[1],
        target_provider_id=NODES[3],
    )  # fmt: skip
    for candidates, held in (
        ([node(2, 451)], [node(0, 900), node(1, 950)]), ([node(2)], [node(0, 900), node(1, 950)]),
        ([node(2, 100)], [node(0, 849), node(1)]), ([node(2, 100)], [node(0, 900)]),
    ):  # fmt: skip
        assert plan_replicas({CONTENTS[0]: held}, candidates, policy, NOW).rebalance_tasks == ()


def test_a_round_has_a_most_of_each_and_zero_means_none() -> None:
    holders = {content: [node(0, 900)] for content in CONTENTS}
    policy = ReplicaMaintenancePolicy(max_repairs_per_round=7)
    assert len(plan_replicas(holders, [node(1), node(2)], policy, NOW).repair_tasks) == 7
    off = ReplicaMaintenancePolicy(target_replicas_per_blob=1, max_repairs_per_round=0, max_rebalances_per_round=3)
    plan = plan_replicas(holders, [node(1, 10)], off, NOW)
    assert (len(plan.repair_tasks), len(plan.rebalance_tasks)) == (0, 3)
    for wrong in ({"target_replicas_per_blob": 0}, {"max_repairs_per_round": -1}):
        with pytest.raises(UsageError):
            ReplicaMaintenancePolicy(**wrong)


def test_responsibility_and_targets_are_spread() -> None:
    shares = Counter(responsible(content_hash(b"%d" % number), NODES) for number in range(3_000))
    assert set(shares) == set(NODES)
    assert all(400 < share < 600 for share in shares.values())
    assert responsible(CONTENTS[0], []) is None
    assert responsible(CONTENTS[0], NODES) == responsible(CONTENTS[0], NODES[::-1])
    holders = {content: [node(0)] for content in CONTENTS}
    policy = ReplicaMaintenancePolicy(target_replicas_per_blob=2, max_repairs_per_round=40)
    targets = Counter(
        task.target_provider_id
        for task in plan_replicas(holders, [node(number) for number in range(1, 6)], policy, NOW).repair_tasks
    )
    assert len(targets) == 5


@given(
    st.dictionaries(st.sampled_from(CONTENTS[:6]), st.sets(st.integers(0, 5)), max_size=6),
    st.lists(st.none() | st.integers(0, 1_000), min_size=6, max_size=6),
    st.integers(1, 4),
)
def test_no_plan_copies_to_a_holder_or_beyond_its_target(
    held: dict[ContentHash, set[int]], loads: list[int | None], target: int
) -> None:
    everybody = [node(number, load) for number, load in enumerate(loads)]
    holders = {content: [everybody[number] for number in numbers] for content, numbers in held.items()}
    plan = plan_replicas(holders, everybody, ReplicaMaintenancePolicy(target_replicas_per_blob=target), NOW)
    copies = Counter(task.content_hash for task in plan.repair_tasks)
    for content, numbers in held.items():
        names = {NODES[number] for number in numbers}
        assert len(names) + copies[content] <= max(target, len(names))
        for task in (*plan.repair_tasks, *plan.rebalance_tasks):
            if task.content_hash == content:
                assert task.source_provider_id in names
                assert task.target_provider_id not in names
        if names and copies[content]:
            assert len(names) + copies[content] == target
    moved = [task.content_hash for task in plan.rebalance_tasks]
    assert len(moved) == len(set(moved))
    assert not set(moved) & set(copies)


TWO = ReplicaMaintenancePolicy(target_replicas_per_blob=2)
CONTENT = CONTENTS[0]


def test_the_first_by_weight_is_responsible_and_the_order_is_the_same_for_all() -> None:
    first = first_by_weight(CONTENT, NODES, 3)
    assert first == first_by_weight(CONTENT, NODES[::-1], 3)
    assert first[0] == responsible(CONTENT, NODES)
    assert list(first) == sorted(NODES, key=lambda name: weight(CONTENT, name), reverse=True)[:3]
    assert first_by_weight(CONTENT, NODES[:1], 3) == (NODES[0],)


def test_a_copy_on_its_way_is_not_planned_again_and_nothing_is_moved_meanwhile() -> None:
    coming = {CONTENT: ContentView(coming=frozenset([NODES[1]]))}
    plan = plan_replicas({CONTENT: [node(0)]}, [node(1), node(2)], TWO, NOW, coming)
    assert (plan.repair_tasks, plan.warnings) == ((), ())
    held = [node(0, 900), node(2)]
    assert plan_replicas({CONTENT: held}, [node(1, 10), node(3, 10)], TWO, NOW, coming).rebalance_tasks == ()
    more = ReplicaMaintenancePolicy(target_replicas_per_blob=3)
    (task,) = plan_replicas({CONTENT: [node(0)]}, [node(1), node(2)], more, NOW, coming).repair_tasks
    assert task.target_provider_id == NODES[2]


def test_who_is_uncertain_may_hold_it_still() -> None:
    for uncertain, repairs in ((0, 1), (1, 0), (2, 0)):
        views = {CONTENT: ContentView(uncertain=uncertain)}
        plan = plan_replicas({CONTENT: [node(0)]}, [node(1)], TWO, NOW, views)
        assert len(plan.repair_tasks) == repairs
    three = [node(0), node(1), node(2)]
    assert plan_replicas({CONTENT: three}, three, TWO, NOW).release_tasks
    assert plan_replicas({CONTENT: three}, three, TWO, NOW, {CONTENT: ContentView(uncertain=1)}).release_tasks == ()


def test_a_surplus_copy_goes_the_most_loaded_one_first() -> None:
    held = [node(0, 860), node(1, 990), node(2, 10)]
    assert plan_replicas({CONTENT: held}, held, TWO, NOW).release_tasks == (
        ReplicaReleaseTask(content_hash=CONTENT, holder_id=NODES[1]),
    )
    bound = {CONTENT: ContentView(bound=frozenset([NODES[1]]))}
    (task,) = plan_replicas({CONTENT: held}, held, TWO, NOW, bound).release_tasks
    assert task.holder_id == NODES[0]
    everybody = {CONTENT: ContentView(bound=frozenset(NODES))}
    assert plan_replicas({CONTENT: held}, held, TWO, NOW, everybody).release_tasks == ()


def test_of_idle_holders_the_last_by_weight_gives_up_its_copy() -> None:
    for content in CONTENTS:
        held = [node(number, 10 * number) for number in range(4)]
        (task,) = plan_replicas({content: held}, held, TWO, NOW).release_tasks
        assert task.holder_id == first_by_weight(content, NODES[:4], 4)[-1]


def test_only_so_many_surplus_copies_go_in_a_round() -> None:
    held = [node(0), node(1), node(2), node(3)]
    policy = ReplicaMaintenancePolicy(target_replicas_per_blob=2, max_rebalances_per_round=5)
    plan = plan_replicas(dict.fromkeys(CONTENTS, held), held, policy, NOW)
    assert len(plan.release_tasks) == 5
    assert len({task.content_hash for task in plan.release_tasks}) == 5, "one of a content"


def test_who_has_refused_is_passed_over() -> None:
    unwilling = {CONTENT: ContentView(unwilling=frozenset([NODES[1]]))}
    (task,) = plan_replicas({CONTENT: [node(0)]}, [node(1), node(2)], TWO, NOW, unwilling).repair_tasks
    assert task.target_provider_id == NODES[2]
    held = [node(0, 900), node(3)]
    (task,) = plan_replicas({CONTENT: held}, [node(1, 0), node(2, 5)], TWO, NOW, unwilling).rebalance_tasks
    assert task.target_provider_id == NODES[2]


def test_what_a_plan_moves_counts_so_that_neither_end_is_overdone() -> None:
    """A hundred bytes of a thousand are a tenth of the load: the source is below 850 after the first two."""
    views = {content: ContentView(size_bytes=100) for content in CONTENTS}
    held = [node(0, 950, storage_total_bytes=1_000, storage_available_bytes=50), node(3, 500)]
    idle = [node(1, 400, storage_total_bytes=1_000, storage_available_bytes=600)]
    plan = plan_replicas(dict.fromkeys(CONTENTS, held), idle, TWO, NOW, views)
    assert len(plan.rebalance_tasks) == 1, "after it the target is at 500, no more idle, and the source at 850"
    idle.append(node(2, 400, storage_total_bytes=1_000, storage_available_bytes=600))
    plan = plan_replicas(dict.fromkeys(CONTENTS, held), idle, TWO, NOW, views)
    assert [task.target_provider_id for task in plan.rebalance_tasks] == [NODES[1], NODES[2]]
    full = [node(1, 10, storage_total_bytes=1_000, storage_available_bytes=100)]
    assert plan_replicas({CONTENT: held}, full, TWO, NOW, views).rebalance_tasks == (), "it would not fit"


def test_repairs_do_not_overfill_a_target() -> None:
    views = {content: ContentView(size_bytes=100) for content in CONTENTS}
    small = [node(1, 0, storage_total_bytes=1_000, storage_available_bytes=350)]
    plan = plan_replicas({content: [node(0)] for content in CONTENTS}, small, TWO, NOW, views)
    assert len(plan.repair_tasks) == 3
    assert len(plan.warnings) == len(CONTENTS) - 3


def test_each_of_several_planners_moves_its_share() -> None:
    """Three hundred bytes too many: one planner moves three contents, each of three planners one."""
    views = {content: ContentView(size_bytes=100) for content in CONTENTS}
    held = [node(0, 990, storage_total_bytes=2_000, storage_available_bytes=20), node(3, 500)]
    idle = [node(1, 0, storage_total_bytes=9_000, storage_available_bytes=9_000)]
    holders = dict.fromkeys(CONTENTS, held)
    moves = [len(plan_replicas(holders, idle, TWO, NOW, views, planners).rebalance_tasks) for planners in (1, 3)]
    assert moves == [3, 1]


def takers(content: ContentHash, views: dict[PeerId, set[PeerId]], target: int) -> set[PeerId]:
    """Who takes new content when each decides by the nodes that it sees."""
    return {own for own, seen in views.items() if own in first_by_weight(content, seen | {own}, target)}


@given(st.data())
def test_whatever_nodes_see_new_content_gets_its_copies(data: st.DataObject) -> None:
    """Who is among the first of all is among the first of any that it sees: too many take it, and never too few."""
    everybody = [PeerId(f"node {number}") for number in range(data.draw(st.integers(1, 12)))]
    views = {own: data.draw(st.sets(st.sampled_from(everybody))) for own in everybody}
    for content in CONTENTS[:5]:
        assert takers(content, views, 3) >= set(first_by_weight(content, everybody, 3))


def test_the_less_nodes_see_the_more_copies_new_content_gets() -> None:
    """As docs/storage.md says: about target * n / v, when each of n nodes sees v."""
    random = Random(1)
    everybody = [PeerId(f"node {number}") for number in range(130)]
    counts = {}
    for seen in (130, 65):
        views = {own: set(random.sample(everybody, seen)) for own in everybody}
        counts[seen] = sum(len(takers(content, views, 3)) for content in CONTENTS) / len(CONTENTS)
    assert counts[130] == 3
    assert counts[65] == pytest.approx(6, rel=0.1)
