"""T-7.4, T-7.5, T-7.6: the walk over the own blobs."""

from __future__ import annotations

from collections.abc import Callable

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.challenge_policy import StorageChallengeAdaptivePolicy, StorageChallengeProbeConfig
from agent_world.distfs.probe import ProbeCursorState, StorageChallengeProbeReport, probe
from agent_world.errors import BlobHashMismatch, BlobNotFound
from agent_world.wire.challenge import FailureReason
from agent_world.wire.cid import ContentHash

HASHES = sorted(content_hash(b"%d" % number) for number in range(3))
OFF = StorageChallengeAdaptivePolicy()
PAUSES = StorageChallengeAdaptivePolicy(failure_backoff_base_ms=100, failure_backoff_max_ms=500)


def fine(_blob: ContentHash) -> None:
    pass


def broken(error: Exception) -> Callable[[ContentHash], None]:
    def read(_blob: ContentHash) -> None:
        raise error

    return read


def one(
    state: ProbeCursorState,
    read: Callable[[ContentHash], object] = fine,
    *,
    hashes: list[ContentHash] = HASHES,
    per_tick: int = 1,
    policy: StorageChallengeAdaptivePolicy = OFF,
    now_ms: int = 1_000,
) -> tuple[ProbeCursorState, StorageChallengeProbeReport]:
    config = StorageChallengeProbeConfig(challenges_per_tick=per_tick)
    return probe(state, hashes, read, (config, policy), ("node", "world", now_ms))


def test_two_of_three_a_round() -> None:
    state, report = one(ProbeCursorState(), per_tick=2)
    assert (report.total_checks, report.passed_checks, state.next_blob_cursor) == (2, 2, 2)
    state, _ = one(state, per_tick=2)
    assert (state.next_blob_cursor, state.cumulative_total_checks, state.rounds_executed) == (1, 4, 2)


def test_every_error_is_a_failed_check_with_its_reason() -> None:
    for error, reason in (
        (BlobHashMismatch("x"), FailureReason.HASH_MISMATCH),
        (BlobNotFound("x"), FailureReason.MISSING_SAMPLE),
        (OSError("x"), FailureReason.READ_IO_ERROR),
    ):
        state, report = one(ProbeCursorState(), broken(error))
        assert (report.failed_checks, report.failure_reasons) == (1, {reason: 1})
        assert state.cumulative_failure_reasons == {reason: 1}


def test_an_empty_store_gives_zeros_and_begins_anew() -> None:
    state, _ = one(ProbeCursorState(), per_tick=2)
    state, report = one(state, hashes=[])
    assert (report.total_checks, state.next_blob_cursor, state.last_hash) == (0, 0, None)


def test_the_policy_bounds_a_round() -> None:
    policy = StorageChallengeAdaptivePolicy(max_checks_per_round=1)
    _, report = one(ProbeCursorState(), per_tick=3, policy=policy)
    assert report.total_checks == 1


def test_a_pause_skips_rounds_and_counts_them() -> None:
    bad = broken(BlobHashMismatch("x"))
    state, _ = one(ProbeCursorState(), bad, policy=PAUSES, now_ms=1_000)
    assert state.backoff.backoff_until_unix_ms == 1_100
    state, report = one(state, bad, policy=PAUSES, now_ms=1_050)
    assert (report.total_checks, state.rounds_executed, state.last_probe_unix_ms) == (0, 2, 1_050)
    assert state.backoff.cumulative_backoff_skipped_rounds == 1
    state, _ = one(state, bad, policy=PAUSES, now_ms=1_200)
    assert (state.backoff.backoff_until_unix_ms, state.backoff.cumulative_backoff_applied_ms) == (1_400, 300)
    assert state.backoff.last_backoff_duration_ms == 200
    state, _ = one(state, fine, policy=PAUSES, now_ms=1_400)
    assert (state.backoff.consecutive_failure_rounds, state.backoff.backoff_until_unix_ms) == (0, 0)


def test_a_mixed_round_clears_the_streak() -> None:
    def first_is_bad(blob: ContentHash) -> None:
        if blob == HASHES[0]:
            raise BlobNotFound("x")

    state, report = one(ProbeCursorState(), first_is_bad, per_tick=2, policy=PAUSES)
    assert (report.passed_checks, report.failed_checks) == (1, 1)
    assert state.backoff.consecutive_failure_rounds == 0


def test_blobs_that_come_and_go_are_neither_skipped_nor_doubled() -> None:
    """K-7.10: everything that is there all the time is seen once a turn, whatever is put in before the cursor."""
    seen: list[ContentHash] = []
    hashes = sorted(content_hash(b"%d" % number) for number in range(20))
    stays = hashes[:10:2] + hashes[10::2]
    state = ProbeCursorState()
    now = list(stays)
    for _ in range(9):
        state, _ = one(state, seen.append, hashes=now)
        assert state.last_hash is not None
        new = next((each for each in hashes if each not in now and each < state.last_hash), None)
        now = sorted([*now, *([] if new is None else [new])])
    assert len(now) > len(stays) + 5
    while state.last_hash != stays[-1]:
        state, _ = one(state, seen.append, hashes=now)
    assert [each for each in seen if each in stays] == stays
