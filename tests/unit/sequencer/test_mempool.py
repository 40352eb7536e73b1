from __future__ import annotations

import pytest
from pending_actions import ALICE, BOB, CAROL, NOW_MS, act, done, first_nonce, pool, refusal

from agent_world.config import BatchRules
from agent_world.errors import ErrorCode, Refused
from agent_world.wire.ids import ActorId

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
