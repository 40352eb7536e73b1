from __future__ import annotations

import random

from pending_actions import ALICE, BOB, CAROL, NOW_MS, act, done, first_nonce, pool

from agent_world.config import BatchRules
from agent_world.wire.ids import ActorId

# --- T-6.2 -----------------------------------------------------------------------------------------------------------


def test_t_6_2_order_by_timestamp_then_id_and_the_rest_stays() -> None:
    mempool = pool()
    late, early = act(ALICE, 1, at_ms=NOW_MS + 2), act(BOB, 1, at_ms=NOW_MS + 1)
    tied = sorted((act(CAROL, 1, at_ms=NOW_MS + 2, salt=str(n)) for n in range(2)), key=lambda a: a.action_id)[0]
    for action in (late, early, tied):
        mempool.add(action, NOW_MS, 1)
    batch = mempool.reserve(BatchRules(max_actions=2), first_nonce)
    assert batch.actions == (early, min(late, tied, key=lambda action: action.action_id))
    assert len(mempool) == 3


def test_t_6_2_a_false_clock_gains_no_more_than_the_drift() -> None:
    mempool = pool(drift_ms=10)
    ancient = act(ALICE, 1, at_ms=0)
    honest = act(BOB, 1, at_ms=NOW_MS - 11)
    future = act(CAROL, 1, at_ms=2**62)
    last = act(ActorId("dora"), 1, at_ms=NOW_MS + 11)
    mempool.add(honest, NOW_MS - 11, 1)
    mempool.add(future, NOW_MS, 1)
    mempool.add(ancient, NOW_MS, 1)
    mempool.add(last, NOW_MS + 11, 1)
    assert mempool.reserve(BatchRules(), first_nonce).actions == (honest, ancient, future, last)


# --- T-6.3 -----------------------------------------------------------------------------------------------------------


def test_t_6_3_an_action_above_the_budget_is_dropped_and_the_small_one_taken() -> None:
    mempool = pool()
    huge, small = act(ALICE, 1, size=2048), act(BOB, 1, at_ms=NOW_MS + 1, size=100)
    mempool.add(huge, NOW_MS, 1)
    mempool.add(small, NOW_MS, 1)
    assert mempool.reserve(BatchRules(max_payload_bytes=512), first_nonce).actions == (small,)
    assert huge.action_id not in mempool
    assert small.action_id in mempool
    assert mempool.counters()["oversized"] == 1
    assert mempool.size_bytes == 100


def test_t_6_3_sizes_of_any_number_are_summed_without_overflow() -> None:
    mempool = pool(max_bytes=2**70)
    first, second = act(ALICE, 1, size=2**63), act(BOB, 1, at_ms=NOW_MS + 1, size=2**63)
    mempool.add(first, NOW_MS, 1)
    mempool.add(second, NOW_MS, 1)
    batch = mempool.reserve(BatchRules(max_payload_bytes=2**64 - 1), first_nonce)
    assert batch.actions == (first,)
    assert mempool.reserve(BatchRules(max_payload_bytes=2**64), first_nonce).size_bytes == 2**64


# --- T-6.4, K-6.7, K-6.8 ---------------------------------------------------------------------------------------------


def test_t_6_4_byte_budget_ends_the_walk_at_the_first_misfit() -> None:
    mempool = pool()
    actions = [act(ALICE, 1, size=60), act(BOB, 1, at_ms=NOW_MS + 1, size=60), act(CAROL, 1, at_ms=NOW_MS + 2, size=30)]
    for action in actions:
        mempool.add(action, NOW_MS, 1)
    rules = BatchRules(max_payload_bytes=100, scan_past_misfits=0)
    assert mempool.reserve(rules, first_nonce).actions == (actions[0],)


def test_t_6_4_batch_id_does_not_depend_on_the_order_of_arrival() -> None:
    actions = [act(actor, nonce) for actor in (ALICE, BOB, CAROL) for nonce in (1, 2, 3)]
    ids = set()
    for seed in range(5):
        random.Random(seed).shuffle(actions)
        mempool = pool()
        for action in actions:
            mempool.add(action, NOW_MS, 1)
        batch = mempool.reserve(BatchRules(), first_nonce)
        assert len(batch.actions) == 9
        ids.add(batch.batch_id)
    assert len(ids) == 1


def test_k_6_7_a_misfit_is_passed_over_and_blocks_only_its_own_actor() -> None:
    mempool = pool()
    fits = act(ALICE, 1, size=60)
    misfit, behind = act(BOB, 1, at_ms=NOW_MS + 1, size=60), act(BOB, 2, at_ms=NOW_MS + 1, size=5)
    smaller = act(CAROL, 1, at_ms=NOW_MS + 2, size=30)
    for action in (fits, misfit, behind, smaller):
        mempool.add(action, NOW_MS, 1)
    rules = BatchRules(max_payload_bytes=100, scan_past_misfits=1)
    assert mempool.reserve(rules, first_nonce).actions == (fits, smaller)
    mempool.on_committed([done(fits), done(smaller)])
    assert mempool.reserve(rules, first_nonce).actions == (misfit, behind)


def test_k_6_7_misfits_are_passed_over_only_so_often() -> None:
    mempool = pool()
    mempool.add(act(ALICE, 1, size=60), NOW_MS, 1)
    for number in range(3):
        mempool.add(act(ActorId(f"big{number}"), 1, at_ms=NOW_MS + 1, size=60), NOW_MS, 1)
    mempool.add(act(CAROL, 1, at_ms=NOW_MS + 2, size=30), NOW_MS, 1)
    taken = {
        limit: len(mempool.reserve(BatchRules(max_payload_bytes=100, scan_past_misfits=limit), first_nonce).actions)
        for limit in (0, 1, 2, 3)
    }
    assert taken == {0: 1, 1: 1, 2: 1, 3: 2}
