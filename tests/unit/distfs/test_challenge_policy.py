"""T-7.6, T-7.7 and the vectors of the back-off: what a failed round is followed by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.distfs.challenge_policy import (
    SUSPECTS_MAX,
    Backoff,
    StorageChallengeAdaptivePolicy,
    StorageChallengeProbeConfig,
    TargetRecord,
    dominant_reason,
)
from agent_world.errors import UsageError
from agent_world.wire.challenge import FailureReason
from agent_world.wire.limits import I64_MAX

HASH, MISSING, TIMEOUT = FailureReason.HASH_MISMATCH, FailureReason.MISSING_SAMPLE, FailureReason.TIMEOUT


def policy(base: int, most: int, **multipliers: int) -> StorageChallengeAdaptivePolicy:
    return StorageChallengeAdaptivePolicy(
        failure_backoff_base_ms=base,
        failure_backoff_max_ms=most,
        **{f"backoff_multiplier_{name}": value for name, value in multipliers.items()},
    )


def test_the_vector_of_six_failures() -> None:
    each = policy(100, 5_000, unknown=3)
    waits = [each.backoff_ms(streak, FailureReason.UNKNOWN) for streak in range(7)]
    assert waits == [0, 300, 600, 1_200, 2_400, 4_800, 5_000]


def test_the_pauses_of_two_failed_rounds_add_up() -> None:
    each, state = policy(100, 500), Backoff()
    state = state.failed(each, {HASH: 1}, 1_000)
    assert (state.backoff_until_unix_ms, state.is_waiting(1_050), state.is_waiting(1_100)) == (1_100, True, False)
    state = state.skipped().failed(each, {HASH: 1}, 1_200)
    assert (state.backoff_until_unix_ms, state.cumulative_backoff_applied_ms) == (1_400, 300)
    assert (state.last_backoff_duration_ms, state.cumulative_backoff_skipped_rounds) == (200, 1)
    cleared = state.cleared()
    assert (cleared.consecutive_failure_rounds, cleared.backoff_until_unix_ms) == (0, 0)
    assert cleared.last_backoff_duration_ms == 200


def test_the_main_reason_of_the_round_sets_the_pause() -> None:
    each = policy(100, 10_000, hash_mismatch=4, timeout=2)
    assert Backoff().failed(each, {HASH: 2, TIMEOUT: 1}, 0).last_backoff_duration_ms == 400
    assert Backoff().failed(each, {HASH: 1, TIMEOUT: 2}, 0).last_backoff_duration_ms == 200


def test_ties_go_to_the_first_label() -> None:
    assert dominant_reason({TIMEOUT: 1, MISSING: 1, HASH: 0}) is MISSING
    assert dominant_reason({TIMEOUT: 2, HASH: 2}) is HASH


def test_the_doubling_ends_at_sixteen_and_the_sum_saturates() -> None:
    each = policy(1, I64_MAX)
    assert each.backoff_ms(17, HASH) == each.backoff_ms(18, HASH) == each.backoff_ms(10**9, HASH) == 65_536
    state = Backoff(cumulative_backoff_applied_ms=I64_MAX - 1).failed(policy(I64_MAX, I64_MAX), {HASH: 1}, I64_MAX)
    assert (state.cumulative_backoff_applied_ms, state.backoff_until_unix_ms) == (I64_MAX, I64_MAX)


@given(st.integers(1, 2**62), st.integers(1, 2**31), st.integers(1, 100))
def test_no_pause_is_above_the_maximum(base: int, multiplier: int, streak: int) -> None:
    each = policy(base, base, timeout=multiplier)
    assert each.backoff_ms(streak, TIMEOUT) == base


def test_a_base_of_zero_never_pauses() -> None:
    assert StorageChallengeAdaptivePolicy().backoff_ms(9, HASH) == 0
    assert policy(0, 100).backoff_ms(9, HASH) == 0
    assert Backoff().failed(StorageChallengeAdaptivePolicy(), {HASH: 1}, 5).backoff_until_unix_ms == 0


@pytest.mark.parametrize("reason", [reason.value.lower() for reason in FailureReason])
def test_a_multiplier_of_zero_is_refused_by_name(reason: str) -> None:
    with pytest.raises(UsageError, match=f"backoff_multiplier_{reason} must be a positive integer"):
        policy(1, 1, **{reason: 0})


def test_bounds_are_checked_by_name() -> None:
    for make, text in (
        (lambda: policy(2, 1), "failure_backoff_max_ms must be failure_backoff_base_ms or more"),
        (lambda: policy(-1, 1), "failure_backoff_base_ms must be a non-negative integer"),
        (lambda: StorageChallengeAdaptivePolicy(max_checks_per_round=0), "max_checks_per_round must be a positive"),
        (lambda: StorageChallengeProbeConfig(challenges_per_tick=0), "challenges_per_tick must be a positive integer"),
        (lambda: StorageChallengeProbeConfig(allowed_clock_skew_ms=-1), "allowed_clock_skew_ms must be a non-negat"),
        (lambda: StorageChallengeProbeConfig(challenge_ttl_ms=0), "challenge_ttl_ms must be a positive integer"),
    ):
        with pytest.raises(UsageError, match=text):
            make()


def test_the_defaults_are_those_of_the_specification() -> None:
    each, rounds = StorageChallengeAdaptivePolicy(), StorageChallengeProbeConfig()
    assert (each.max_checks_per_round, each.failure_backoff_base_ms, each.failure_backoff_max_ms) == (2**32 - 1, 0, 0)
    assert {each.multiplier(reason) for reason in FailureReason} == {1}
    assert (rounds.max_sample_bytes, rounds.challenges_per_tick) == (65_536, 1)
    assert (rounds.challenge_ttl_ms, rounds.allowed_clock_skew_ms) == (30_000, 5_000)


def test_one_pass_of_what_had_failed_clears_the_streak() -> None:
    each = policy(100, 10_000)
    state = TargetRecord()
    for now_ms in (1_000, 2_000, 3_000):
        state = state.after_round(each, (), (("a", HASH),), now_ms)
    assert (state.backoff.consecutive_failure_rounds, state.suspects, state.failed) == (3, ("a",), 3)
    state = state.after_round(each, ("a",), (), 4_000)
    assert (state.backoff.consecutive_failure_rounds, state.backoff.backoff_until_unix_ms, state.suspects) == (0, 0, ())


def test_a_pass_of_other_content_takes_one_step_back_and_no_more() -> None:
    """K-7.8."""
    each = policy(100, 10_000)
    state = TargetRecord()
    for now_ms in (1_000, 2_000, 3_000):
        state = state.after_round(each, (), (("a", HASH),), now_ms)
    state = state.after_round(each, ("b",), (), 4_000)
    assert (state.backoff.consecutive_failure_rounds, state.suspects) == (2, ("a",))
    assert not state.backoff.is_waiting(4_000)
    state = state.after_round(each, (), (("a", HASH),), 5_000)
    assert state.backoff.last_backoff_duration_ms == 400


def test_a_round_in_which_nothing_was_learned_changes_nothing() -> None:
    state = TargetRecord().after_round(policy(100, 100), (), (("a", HASH),), 7)
    assert state.after_round(policy(100, 100), (), (), 9) == state


def test_what_is_remembered_of_failed_content_is_bounded() -> None:
    state = TargetRecord()
    for number in range(SUSPECTS_MAX + 5):
        state = state.after_round(policy(0, 0), (), ((str(number), MISSING),), number)
    assert state.suspects == tuple(str(number) for number in range(5, SUSPECTS_MAX + 5))


def test_what_a_target_has_left_to_others_is_no_suspect_any_more() -> None:
    known = TargetRecord(suspects=("a", "b"), passed=2)
    assert known.without_suspect("a") == TargetRecord(suspects=("b",), passed=2)
    assert known.without_suspect("c") == known
