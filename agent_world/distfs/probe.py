"""A node's look at its own disk, a few blobs a round: a figure of health, never a proof to anybody (K-7.2).

The cursor is the hash of the last blob looked at, so that blobs that come and go are neither skipped nor doubled
(K-7.10); ``next_blob_cursor`` says as a number where that is.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence

import attrs

from agent_world.distfs.challenge_policy import Backoff, StorageChallengeAdaptivePolicy, StorageChallengeProbeConfig
from agent_world.errors import BlobHashMismatch, BlobNotFound
from agent_world.wire.challenge import FailureReason
from agent_world.wire.cid import ContentHash


@attrs.frozen(slots=True, kw_only=True)
class StorageChallengeProbeReport:
    """One round."""

    node_id: str
    world_id: str
    observed_at_unix_ms: int
    total_checks: int = 0
    passed_checks: int = 0
    failed_checks: int = 0
    failure_reasons: Mapping[FailureReason, int] = attrs.Factory(dict)


@attrs.frozen(slots=True, kw_only=True)
class ProbeCursorState:
    """Where the walk over the blobs is, and what it has found."""

    next_blob_cursor: int = 0
    last_hash: ContentHash | None = None
    rounds_executed: int = 0
    """Every round counts, also skipped ones."""
    cumulative_total_checks: int = 0
    cumulative_passed_checks: int = 0
    cumulative_failed_checks: int = 0
    cumulative_failure_reasons: Mapping[FailureReason, int] = attrs.Factory(dict)
    last_probe_unix_ms: int | None = None
    backoff: Backoff = Backoff()


def probe(
    state: ProbeCursorState,
    hashes: Sequence[ContentHash],
    read: Callable[[ContentHash], object],
    config: tuple[StorageChallengeProbeConfig, StorageChallengeAdaptivePolicy],
    at: tuple[str, str, int],
) -> tuple[ProbeCursorState, StorageChallengeProbeReport]:
    """One round over ``hashes``, all blobs in ascending order; ``at`` is node, world and the time in ms.

    ``read`` verifies a blob and raises what a blob store raises; no error of it leaves this function.
    """
    node_id, world_id, now_ms = at
    rounds, policy = config
    report = StorageChallengeProbeReport(node_id=node_id, world_id=world_id, observed_at_unix_ms=now_ms)
    state = attrs.evolve(state, rounds_executed=state.rounds_executed + 1, last_probe_unix_ms=now_ms)
    if state.backoff.is_waiting(now_ms):
        return attrs.evolve(state, backoff=state.backoff.skipped()), report
    if not hashes:
        return attrs.evolve(state, next_blob_cursor=0, last_hash=None, backoff=state.backoff.cleared()), report
    start = 0 if state.last_hash is None else bisect.bisect_right(hashes, state.last_hash)
    checks = min(rounds.challenges_per_tick, policy.max_checks_per_round, len(hashes))
    failures: dict[FailureReason, int] = {}
    for number in range(checks):
        reason = _check(read, hashes[(start + number) % len(hashes)])
        if reason is not None:
            failures[reason] = failures.get(reason, 0) + 1
    failed = sum(failures.values())
    report = attrs.evolve(
        report, total_checks=checks, passed_checks=checks - failed, failed_checks=failed, failure_reasons=failures
    )
    backoff = state.backoff.failed(policy, failures, now_ms) if failed == checks else state.backoff.cleared()
    totals = {
        reason: state.cumulative_failure_reasons.get(reason, 0) + failures.get(reason, 0)
        for reason in FailureReason
        if reason in failures or reason in state.cumulative_failure_reasons
    }
    after = attrs.evolve(
        state,
        next_blob_cursor=(start + checks) % len(hashes),
        last_hash=hashes[(start + checks - 1) % len(hashes)],
        cumulative_total_checks=state.cumulative_total_checks + checks,
        cumulative_passed_checks=state.cumulative_passed_checks + checks - failed,
        cumulative_failed_checks=state.cumulative_failed_checks + failed,
        cumulative_failure_reasons=totals,
        backoff=backoff,
    )
    return after, report


def _check(read: Callable[[ContentHash], object], blob: ContentHash) -> FailureReason | None:
    try:
        read(blob)
    except BlobNotFound:
        return FailureReason.MISSING_SAMPLE
    except BlobHashMismatch:
        return FailureReason.HASH_MISMATCH
    except OSError:
        return FailureReason.READ_IO_ERROR
    return None
