from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.sync.gap import (
    ATTEMPTS_PER_HEIGHT_MAX,
    BACK_OFF_BASE_MS,
    BACK_OFF_MAX_MS,
    PAUSE_MS,
    PEERS_MAX,
    GapPlan,
)
from agent_world.wire.ids import PeerId

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
LATER = 1_000_000


def test_peers_are_asked_in_turn_and_none_twice_before_all_were() -> None:
    plan = GapPlan()
    asked = []
    for turn in range(3):
        peer = plan.choose(5, [A, B, C], turn)
        assert peer is not None
        asked.append(peer)
    assert asked == [A, B, C]
    assert plan.choose(5, [A, B, C], 3) == A


def test_at_most_three_attempts_then_a_pause_then_anew() -> None:
    plan = GapPlan()
    for attempt in range(1, ATTEMPTS_PER_HEIGHT_MAX + 1):
        peer = plan.choose(5, [A, B, C, PeerId("d")], 0)
        assert peer is not None
        plan.failed(peer, "no", 0)
        assert plan.attempts == attempt % ATTEMPTS_PER_HEIGHT_MAX
        given_up = " failed after 3 attempts" if attempt == 3 else ""
        assert plan.last_error == f"gap sync height 5{given_up}: attempt {attempt}/3 failed, peer {peer}: no"
    assert plan.choose(5, [PeerId("d")], PAUSE_MS - 1) is None
    assert plan.wake_at_ms([PeerId("d")], 0) == PAUSE_MS
    assert plan.choose(5, [PeerId("d")], PAUSE_MS) == PeerId("d")


def test_the_pause_is_the_heights_own() -> None:
    plan = GapPlan()
    for _ in range(ATTEMPTS_PER_HEIGHT_MAX):
        plan.choose(5, [A], 0)
        plan.failed(A, "no", 0)
    assert plan.choose(5, [B], 0) is None
    assert plan.choose(6, [B], 0) == B
    assert plan.attempts == 0


def test_the_last_error_is_kept_until_a_success() -> None:
    plan = GapPlan()
    plan.choose(5, [A, B], 0)
    plan.failed(A, "wrong blocks", 0)
    plan.choose(6, [B], 0)
    assert plan.last_error is not None
    plan.missing(B, 0)
    assert "wrong blocks" in plan.last_error
    plan.choose(6, [B], LATER)
    plan.succeeded(B)
    assert plan.last_error is None


def test_not_found_is_no_failure() -> None:
    plan = GapPlan()
    assert plan.choose(5, [A], 0) == A
    plan.missing(A, 0)
    assert plan.last_error is None
    assert plan.attempts == 0
    assert plan.choose(5, [A], PAUSE_MS - 1) is None
    assert plan.choose(5, [A], PAUSE_MS) == A


def test_a_failing_peer_is_left_alone_twice_as_long_each_time() -> None:
    plan = GapPlan()
    now, pauses = 0, []
    for _ in range(10):
        plan.choose(5, [A], now)
        plan.failed(A, "no", now)
        ready = plan.wake_at_ms([A], now + PAUSE_MS)
        pauses.append(ready - now)
        now += LATER
    assert pauses == [min(BACK_OFF_MAX_MS, BACK_OFF_BASE_MS * 2**turn) for turn in range(10)]
    plan.succeeded(A)
    plan.failed(A, "no", now)
    assert plan.wake_at_ms([A], now + PAUSE_MS) == now + BACK_OFF_BASE_MS


def test_a_peer_that_is_left_alone_holds_up_nobody() -> None:
    plan = GapPlan()
    for height in range(1, 9):  # A has failed often and has to wait long
        plan.choose(height, [A], 0)
        plan.failed(A, "no", 0)
    assert plan.choose(9, [A, B], 0) == B
    plan.failed(B, "slow", 0)
    assert plan.wake_at_ms([A, B], 0) == BACK_OFF_BASE_MS
    assert plan.choose(9, [A, B], BACK_OFF_BASE_MS) == B  # not after A's ten seconds


def test_later_heights_are_fetched_from_who_is_free_without_using_up_attempts() -> None:
    plan = GapPlan()
    assert plan.choose(5, [A, B, C], 0) == A
    assert plan.spare([A, B, C], {A}, 0) == B
    assert plan.spare([A, B, C], {A, B, C}, 0) is None
    plan.leave_alone(B, 0)
    assert (plan.attempts, plan.last_error) == (0, None)
    assert plan.spare([A, B, C], {A}, BACK_OFF_BASE_MS - 1) == C
    assert plan.spare([A, B, C], {A}, BACK_OFF_BASE_MS) == B


def test_nobody_to_ask_is_looked_at_again_soon() -> None:
    plan = GapPlan()
    assert plan.choose(5, [], 0) is None
    assert plan.wake_at_ms([], 7) == 7 + PAUSE_MS


def test_the_memory_of_failures_is_bounded() -> None:
    plan = GapPlan()
    for number in range(PEERS_MAX + 10):
        plan.choose(number + 1, [A], 0)
        plan.failed(PeerId(str(number)), "no", 0)
    assert len(plan._peers) == PEERS_MAX
    assert plan.wake_at_ms([PeerId("0")], 0) <= 0 < plan.wake_at_ms([PeerId("12")], 0)


outcomes = st.lists(st.tuples(st.sampled_from(["ok", "failed", "missing"]), st.integers(0, 3_000)), max_size=60)


@settings(deadline=None, max_examples=80)
@given(outcomes)
def test_attempts_are_bounded_whatever_happens(items: list[tuple[str, int]]) -> None:
    """No more than three failures of one height within any pause, and never an answer for ever None."""
    plan, now, height, failures = GapPlan(), 0, 1, []
    for outcome, passed in items:
        now += passed
        peer = plan.choose(height, [A, B, C], now)
        if peer is None:
            wake = plan.wake_at_ms([A, B, C], now)
            assert now < wake <= now + BACK_OFF_MAX_MS
            now = wake
            peer = plan.choose(height, [A, B, C], now)
            assert peer is not None
        if outcome == "ok":
            plan.succeeded(peer)
            height, failures = height + 1, []
        elif outcome == "failed":
            plan.failed(peer, "no", now)
            failures.append(now)
            recent = [at for at in failures if at > now - PAUSE_MS]
            assert len(recent) <= ATTEMPTS_PER_HEIGHT_MAX
        else:
            plan.missing(peer, now)
