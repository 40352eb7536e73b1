from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.config import BatchRules, MempoolConfig
from agent_world.crypto.hashing import hash32
from agent_world.errors import ErrorCode, Refused
from agent_world.sequencer.batch import CommittedAction, PendingAction
from agent_world.sequencer.mempool import Mempool
from agent_world.wire.ids import ActorId

NOW_MS = 1_000_000
ALICE, BOB, CAROL = ActorId("alice"), ActorId("bob"), ActorId("carol")


def act(actor: ActorId, nonce: int, *, at_ms: int = NOW_MS, size: int = 100, salt: str = "") -> PendingAction:
    data = f"{actor}/{nonce}/{at_ms}/{size}/{salt}".encode()
    return PendingAction(
        action_id=hash32(data), actor_id=actor, nonce=nonce, timestamp_ms=at_ms, size_bytes=size, data=data,
        payload_hash=hash32(data + b"payload"),
    )  # fmt: skip


def done(action: PendingAction) -> CommittedAction:
    return CommittedAction(action_id=action.action_id, actor_id=action.actor_id, nonce=action.nonce)


def first_nonce(_actor: ActorId) -> int:
    return 1


def pool(**settings_: object) -> Mempool:
    return Mempool(MempoolConfig(**settings_))  # type: ignore[arg-type]


def refusal(call: Callable[[], object]) -> tuple[str, ErrorCode]:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.rule, caught.value.code


# --- T-6.1 -----------------------------------------------------------------------------------------------------------


def test_t_6_1_duplicate_id_is_not_taken_twice() -> None:
    mempool = pool()
    assert mempool.add(act(ALICE, 1), NOW_MS, 1)
    assert not mempool.add(act(ALICE, 1), NOW_MS + 5, 1)
    assert len(mempool) == 1
    assert mempool.counters()["duplicate"] == 1


def test_t_6_1_actor_limit_of_one_refuses_the_second() -> None:
    mempool = pool(max_per_actor=1)
    mempool.add(act(ALICE, 1), NOW_MS, 1)
    assert refusal(lambda: mempool.add(act(ALICE, 2), NOW_MS, 1)) == ("A11", ErrorCode.RATE_LIMITED)
    assert mempool.add(act(BOB, 1), NOW_MS, 1)
    assert mempool.counters()["actor_limit"] == 1


def test_t_6_1_capacity_of_two_keeps_the_last_two_of_three() -> None:
    mempool = pool(max_actions=2, evict_oldest=True)
    actions = [act(actor, 1) for actor in (ALICE, BOB, CAROL)]
    for action in actions:
        assert mempool.add(action, NOW_MS, 1)
    assert list(mempool.arrivals()) == actions[1:]
    assert mempool.counters()["evicted_oldest"] == 1


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


# --- K-6.2, K-6.3: what leaves the pool and what may come back --------------------------------------------------------


def test_k_6_2_a_reserved_batch_stays_until_it_is_committed() -> None:
    mempool = pool()
    actions = [act(ALICE, 1), act(ALICE, 2), act(BOB, 1)]
    for action in actions:
        mempool.add(action, NOW_MS, 1)
    first = mempool.reserve(BatchRules(), first_nonce)
    assert mempool.reserve(BatchRules(), first_nonce) == first
    mempool.on_committed(map(done, first.actions))
    assert len(mempool) == 0
    assert mempool.size_bytes == 0
    assert not mempool.has_ready
    assert mempool.counters()["committed"] == 3
    assert mempool.reserve(BatchRules(), first_nonce).actions == ()


def test_k_6_2_an_error_of_the_state_loses_nothing() -> None:
    mempool = pool()
    for actor in (ALICE, BOB, CAROL):
        mempool.add(act(actor, 1), NOW_MS, 1)

    def broken(actor: ActorId) -> int:
        if actor == BOB:
            raise KeyError(actor)
        return 1

    with pytest.raises(KeyError):
        mempool.reserve(BatchRules(), broken)
    assert len(mempool.reserve(BatchRules(), first_nonce).actions) == 3


def test_k_6_3_a_committed_action_does_not_come_back() -> None:
    mempool = pool()
    action = act(ALICE, 1)
    mempool.add(action, NOW_MS, 1)
    mempool.on_committed([done(action)])
    assert refusal(lambda: mempool.add(action, NOW_MS, 2)) == ("A9", ErrorCode.STATE_MISMATCH)
    assert len(mempool) == 0


def test_k_6_3_another_action_with_a_committed_nonce_goes_too() -> None:
    mempool = pool()
    mempool.add(act(ALICE, 1, salt="here"), NOW_MS, 1)
    mempool.add(act(ALICE, 2), NOW_MS, 1)
    mempool.on_committed([done(act(ALICE, 1, salt="elsewhere"))])
    assert [action.nonce for action in mempool.arrivals()] == [2]
    assert mempool.counters() == {"added": 2, "superseded": 1}
    assert mempool.has_ready


def test_k_6_3_a_late_block_removes_actions_below_it() -> None:
    mempool = pool()
    for nonce in (1, 2, 3, 9):
        mempool.add(act(ALICE, nonce), NOW_MS, 1)
    mempool.on_committed([done(act(ALICE, 7))])
    assert [action.nonce for action in mempool.arrivals()] == [9]
    assert not mempool.has_ready


# --- nonces ----------------------------------------------------------------------------------------------------------


def test_only_exactly_the_next_nonce_is_taken() -> None:
    mempool = pool()
    for nonce in (2, 3, 5):
        mempool.add(act(ALICE, nonce), NOW_MS, 1)
    assert not mempool.has_ready
    assert mempool.reserve(BatchRules(), first_nonce).actions == ()
    mempool.add(act(ALICE, 1, at_ms=NOW_MS + 50), NOW_MS, 1)
    assert mempool.has_ready
    assert [action.nonce for action in mempool.reserve(BatchRules(), first_nonce).actions] == [1, 2, 3]


def test_the_state_at_reserve_decides_which_nonce_is_next() -> None:
    mempool = pool()
    for nonce in (1, 2, 3):
        mempool.add(act(ALICE, nonce), NOW_MS, 1)
    assert [action.nonce for action in mempool.reserve(BatchRules(), lambda _: 2).actions] == [2, 3]
    assert [action.nonce for action in mempool.arrivals()] == [2, 3]
    # A state that lags behind what was seen already gets nothing, and loses nothing.
    assert mempool.reserve(BatchRules(), lambda _: 1).actions == ()
    assert [action.nonce for action in mempool.reserve(BatchRules(), lambda _: 2).actions] == [2, 3]


def test_nonces_outside_the_window_are_refused() -> None:
    mempool = pool(nonce_window=4)
    assert refusal(lambda: mempool.add(act(ALICE, 6), NOW_MS, 7)) == ("A9", ErrorCode.STATE_MISMATCH)
    assert refusal(lambda: mempool.add(act(ALICE, 12), NOW_MS, 7)) == ("A10", ErrorCode.STATE_MISMATCH)
    assert mempool.add(act(ALICE, 11), NOW_MS, 7)


def test_a14_the_first_action_of_a_nonce_stays() -> None:
    mempool = pool()
    first = act(ALICE, 1, salt="first")
    mempool.add(first, NOW_MS, 1)
    assert refusal(lambda: mempool.add(act(ALICE, 1, salt="second"), NOW_MS, 1)) == ("A14", ErrorCode.STATE_MISMATCH)
    assert list(mempool.arrivals()) == [first]


def test_a_full_queue_makes_way_for_the_nonce_it_lacks() -> None:
    mempool = pool(max_per_actor=2)
    mempool.add(act(ALICE, 2), NOW_MS, 1)
    mempool.add(act(ALICE, 3), NOW_MS, 1)
    assert mempool.add(act(ALICE, 1), NOW_MS, 1)
    assert sorted(action.nonce for action in mempool.arrivals()) == [1, 2]
    assert mempool.counters()["displaced"] == 1


# --- K-6.6: a full pool ----------------------------------------------------------------------------------------------


def test_k_6_6_a_full_pool_is_busy_and_a_flood_flushes_nobody() -> None:
    mempool = pool(max_actions=2)
    honest = [act(ALICE, 1), act(BOB, 1)]
    for action in honest:
        mempool.add(action, NOW_MS, 1)
    for number in range(5):
        newcomer = act(ActorId(f"fresh{number}"), 1)
        assert refusal(lambda action=newcomer: mempool.add(action, NOW_MS, 1)) == ("A12", ErrorCode.BUSY)  # type: ignore[misc]
    assert list(mempool.arrivals()) == honest
    assert mempool.counters()["full"] == 5


def test_k_6_6_what_cannot_be_executed_makes_room_for_what_can() -> None:
    mempool = pool(max_actions=3)
    for nonce in (2, 3):
        mempool.add(act(ALICE, nonce), NOW_MS, 1)  # gapped: nonce 1 never comes
    mempool.add(act(BOB, 1), NOW_MS, 1)
    with pytest.raises(Refused, match="ERR_BUSY"):
        mempool.add(act(CAROL, 2), NOW_MS, 1)
    assert mempool.add(act(CAROL, 1), NOW_MS, 1)
    assert sorted((action.actor_id, action.nonce) for action in mempool.arrivals()) == [
        (ALICE, 2),
        (BOB, 1),
        (CAROL, 1),
    ]


def test_the_bytes_of_all_actions_are_bounded() -> None:
    mempool = pool(max_bytes=250)
    mempool.add(act(ALICE, 2, size=100), NOW_MS, 1)
    mempool.add(act(BOB, 1, size=100), NOW_MS, 1)
    before = list(mempool.arrivals())
    # Displacing Alice's would not be enough for this one, so nothing is displaced.
    assert refusal(lambda: mempool.add(act(CAROL, 1, size=160), NOW_MS, 1)) == ("A12", ErrorCode.BUSY)
    assert list(mempool.arrivals()) == before
    assert mempool.add(act(CAROL, 1, size=150), NOW_MS, 1)
    assert mempool.size_bytes == 250


def test_remove_and_lookups() -> None:
    mempool = pool()
    actions = [act(ALICE, nonce) for nonce in (1, 2)]
    for action in actions:
        mempool.add(action, NOW_MS, 1)
    assert mempool.get(actions[0].action_id) == actions[0]
    assert mempool.pending_of(ALICE) == 2
    assert mempool.remove(actions[0].action_id) == actions[0]
    assert mempool.remove(actions[0].action_id) is None
    assert mempool.get(actions[0].action_id) is None
    assert mempool.pending_of(ALICE) == 1
    assert mempool.pending_of(BOB) == 0
    assert not mempool.has_ready


# --- T-9.16: invariants under random use ------------------------------------------------------------------------------


def check_invariants(mempool: Mempool, config: MempoolConfig) -> None:
    waiting = list(mempool.arrivals())
    assert len(waiting) == len(mempool) <= config.max_actions
    assert mempool.size_bytes == sum(action.size_bytes for action in waiting) <= config.max_bytes
    for actor in {action.actor_id for action in waiting}:
        nonces = [action.nonce for action in waiting if action.actor_id == actor]
        assert len(nonces) == len(set(nonces)) == mempool.pending_of(actor) <= config.max_per_actor
    assert len(mempool._ready) <= 2 * config.max_actions + 65


def expected_batch(mempool: Mempool, rules: BatchRules, next_nonces: dict[ActorId, int], drift_ms: int) -> list[bytes]:
    """The rules of network-storage 6.3 with K-6.7, said plainly: sort all candidates anew after each action."""
    waiting = {(action.actor_id, action.nonce): action for action in mempool.arrivals()}
    following = dict(next_nonces)
    taken, size, misfits, blocked = [], 0, 0, set()
    while len(taken) < rules.max_actions and misfits <= rules.scan_past_misfits:
        heads = [waiting[at] for at in following.items() if at in waiting and at[0] not in blocked]
        if not heads:
            break
        head = min(heads, key=lambda action: (min(max(action.timestamp_ms, -drift_ms), drift_ms), action.action_id))
        if head.size_bytes > rules.max_payload_bytes:
            blocked.add(head.actor_id)
        elif size + head.size_bytes > rules.max_payload_bytes:
            blocked.add(head.actor_id)
            misfits += 1
        else:
            taken.append(head.action_id)
            size += head.size_bytes
            following[head.actor_id] += 1
    return taken


ACTORS = [ActorId(name) for name in "abcd"]
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"), st.sampled_from(ACTORS), st.integers(1, 9), st.integers(-30, 30), st.integers(1, 70),
            st.sampled_from(["", "other"]),
        ),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("commit"), st.integers(0, 3)),
        st.tuples(st.just("reserve"), st.integers(1, 6), st.integers(40, 150), st.integers(0, 2)),
    ),
    max_size=50,
)  # fmt: skip


@given(steps=STEPS, evict=st.booleans(), capacity=st.integers(1, 12))
@settings(deadline=None, max_examples=200)
def test_t_9_16_invariants_under_random_use(steps: list[tuple[object, ...]], evict: bool, capacity: int) -> None:
    config = MempoolConfig(
        max_actions=capacity, max_per_actor=4, max_bytes=400, nonce_window=5, evict_oldest=evict, drift_ms=20
    )
    mempool = Mempool(config)
    next_nonces = dict.fromkeys(ACTORS, 1)
    for kind, *arguments in steps:
        if kind == "add":
            actor, nonce, at_ms, size, salt = arguments
            action = act(actor, nonce, at_ms=at_ms, size=size, salt=salt)  # type: ignore[arg-type]
            before = list(mempool.arrivals())
            try:
                assert mempool.add(action, 0, next_nonces[actor]) == (action not in before)  # type: ignore[index]
                assert action in list(mempool.arrivals())
            except Refused:
                assert list(mempool.arrivals()) == before
        elif kind == "remove":
            waiting = list(mempool.arrivals())
            if waiting:
                mempool.remove(waiting[arguments[0] % len(waiting)].action_id)  # type: ignore[operator]
        elif kind == "commit":
            batch = mempool.reserve(BatchRules(max_payload_bytes=1000), next_nonces.__getitem__)
            taken = batch.actions[: arguments[0]]  # type: ignore[misc]
            for action in taken:
                next_nonces[action.actor_id] += 1
            mempool.on_committed(map(done, taken))
            assert not {action.action_id for action in taken} & {action.action_id for action in mempool.arrivals()}
        else:
            rules = BatchRules(max_actions=arguments[0], max_payload_bytes=arguments[1], scan_past_misfits=arguments[2])  # type: ignore[arg-type]
            expected = expected_batch(mempool, rules, next_nonces, config.drift_ms)
            batch = mempool.reserve(rules, next_nonces.__getitem__)
            assert [action.action_id for action in batch.actions] == expected
            assert batch.size_bytes <= rules.max_payload_bytes
            assert mempool.reserve(rules, next_nonces.__getitem__) == batch
        check_invariants(mempool, config)


def test_a_full_pool_of_ten_thousand_is_cut_quickly_enough_to_count_steps() -> None:
    """Looking up nonces of the state costs most: only actors that are considered may be asked for."""
    mempool = pool()
    for number in range(10_000):
        mempool.add(act(ActorId(f"actor{number}"), 1, at_ms=NOW_MS + number % 100), NOW_MS, 1)
    asked: list[ActorId] = []

    def counting(actor: ActorId) -> int:
        asked.append(actor)
        return 1

    assert len(mempool.reserve(BatchRules(), counting).actions) == 512
    assert len(asked) <= 513
