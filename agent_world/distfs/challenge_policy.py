"""How many checks a round makes and how long a failed round is followed by a pause; source: the reference system"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from agent_world.errors import UsageError
from agent_world.wire.challenge import FailureReason
from agent_world.wire.limits import I64_MAX

U32_MAX: Final = 2**32 - 1
EXPONENT_MAX: Final = 16
"""The pause doubles at most so often, whatever the streak."""
SUSPECTS_MAX: Final = 16
"""Failed content remembered of one target; the oldest is forgotten."""


def _require(condition: bool, name: str, what: str) -> None:
    if not condition:
        raise UsageError(f"{name} must be {what}")


@attrs.frozen(slots=True, kw_only=True)
class StorageChallengeProbeConfig:
    """One round of checks."""

    max_sample_bytes: int = 65_536
    challenges_per_tick: int = 1
    challenge_ttl_ms: int = 30_000
    allowed_clock_skew_ms: int = 5_000

    def __attrs_post_init__(self) -> None:
        for name in ("max_sample_bytes", "challenges_per_tick"):
            _require(0 < getattr(self, name) <= U32_MAX, name, "a positive integer")
        _require(0 < self.challenge_ttl_ms <= I64_MAX, "challenge_ttl_ms", "a positive integer")
        _require(0 <= self.allowed_clock_skew_ms <= I64_MAX, "allowed_clock_skew_ms", "a non-negative integer")


@attrs.frozen(slots=True, kw_only=True)
class StorageChallengeAdaptivePolicy:
    """Bounds of a round, and the pause after one that failed; a base of 0 means no pauses."""

    max_checks_per_round: int = U32_MAX
    failure_backoff_base_ms: int = 0
    failure_backoff_max_ms: int = 0
    backoff_multiplier_hash_mismatch: int = 1
    backoff_multiplier_missing_sample: int = 1
    backoff_multiplier_timeout: int = 1
    backoff_multiplier_read_io_error: int = 1
    backoff_multiplier_signature_invalid: int = 1
    backoff_multiplier_unknown: int = 1

    def __attrs_post_init__(self) -> None:
        _require(0 < self.max_checks_per_round <= U32_MAX, "max_checks_per_round", "a positive integer")
        for name in ("failure_backoff_base_ms", "failure_backoff_max_ms"):
            _require(0 <= getattr(self, name) <= I64_MAX, name, "a non-negative integer")
        _require(
            self.failure_backoff_max_ms >= self.failure_backoff_base_ms,
            "failure_backoff_max_ms",
            "failure_backoff_base_ms or more",
        )
        for reason in FailureReason:
            name = f"backoff_multiplier_{reason.value.lower()}"
            _require(0 < getattr(self, name) <= U32_MAX, name, "a positive integer")

    def multiplier(self, reason: FailureReason) -> int:
        """By how much a pause for this reason is longer."""
        value: int = getattr(self, f"backoff_multiplier_{reason.value.lower()}")
        return value

    def backoff_ms(self, streak: int, reason: FailureReason) -> int:
        """Pause after the ``streak``-th failed round in a row: min(max, base x 2^min(streak - 1, 16) x multiplier)."""
        if streak <= 0 or self.failure_backoff_base_ms == 0:
            return 0
        grown = self.failure_backoff_base_ms << min(streak - 1, EXPONENT_MAX)
        return min(self.failure_backoff_max_ms, grown * self.multiplier(reason))


def dominant_reason(failures: Mapping[FailureReason, int]) -> FailureReason:
    """The most frequent reason of a round, of equal ones the first by its label; ``failures`` has one at least."""
    return min((reason for reason, count in failures.items() if count), key=lambda each: (-failures[each], each.value))


@attrs.frozen(slots=True, kw_only=True)
class Backoff:
    """Failed rounds in a row, and the pause they brought about."""

    consecutive_failure_rounds: int = 0
    backoff_until_unix_ms: int = 0
    cumulative_backoff_skipped_rounds: int = 0
    cumulative_backoff_applied_ms: int = 0
    last_backoff_duration_ms: int = 0
    last_backoff_reason: FailureReason | None = None
    last_backoff_multiplier: int = 0

    def is_waiting(self, now_ms: int) -> bool:
        """Whether a round is to be skipped."""
        return now_ms < self.backoff_until_unix_ms

    def skipped(self) -> Backoff:
        """After a round that was skipped."""
        return attrs.evolve(self, cumulative_backoff_skipped_rounds=self.cumulative_backoff_skipped_rounds + 1)

    def failed(
        self, policy: StorageChallengeAdaptivePolicy, failures: Mapping[FailureReason, int], now_ms: int
    ) -> Backoff:
        """After a round with failures only."""
        streak = self.consecutive_failure_rounds + 1
        reason = dominant_reason(failures)
        pause_ms = policy.backoff_ms(streak, reason)
        return attrs.evolve(
            self,
            consecutive_failure_rounds=streak,
            backoff_until_unix_ms=min(I64_MAX, now_ms + pause_ms) if pause_ms else 0,
            cumulative_backoff_applied_ms=min(I64_MAX, self.cumulative_backoff_applied_ms + pause_ms),
            last_backoff_duration_ms=pause_ms,
            last_backoff_reason=reason,
            last_backoff_multiplier=policy.multiplier(reason),
        )

    def cleared(self) -> Backoff:
        """After a round that ends the streak; what the last pause was stays to be read."""
        return attrs.evolve(self, consecutive_failure_rounds=0, backoff_until_unix_ms=0)

    def decayed(self) -> Backoff:
        """After a pass that does not show that what failed is well again (K-7.8): one step back."""
        return attrs.evolve(
            self, consecutive_failure_rounds=max(1, self.consecutive_failure_rounds - 1), backoff_until_unix_ms=0
        )


@attrs.frozen(slots=True, kw_only=True)
class TargetRecord:
    """What a node knows of one target; kept over restarts."""

    backoff: Backoff = Backoff()
    suspects: tuple[str, ...] = ()
    """Content (CIDs as text) that failed and has not passed since, the oldest first; it is asked for again first."""
    passed: int = 0
    offline: int = 0
    contained: int = 0
    failures: Mapping[FailureReason, int] = attrs.Factory(dict)
    last_checked_ms: int = 0

    @property
    def failed(self) -> int:
        """Failed checks of every reason."""
        return sum(self.failures.values())

    def without_suspect(self, content: str) -> TargetRecord:
        """The target does not keep this content any more, so that it cannot show it."""
        return attrs.evolve(self, suspects=tuple(each for each in self.suspects if each != content))

    def after_round(
        self,
        policy: StorageChallengeAdaptivePolicy,
        passed: tuple[str, ...],
        failed: tuple[tuple[str, FailureReason], ...],
        now_ms: int,
    ) -> TargetRecord:
        """After a round with these passes and failures (content, reason); neither means that nothing was learned.

        A pass clears the streak only when no failed content is left; otherwise it takes one step back (K-7.8).
        """
        if not passed and not failed:
            return self
        bad = dict.fromkeys(each for each in self.suspects if each not in passed)
        bad.update(dict.fromkeys(content for content, _reason in failed))
        counts = dict(self.failures)
        here: dict[FailureReason, int] = {}
        for _content, reason in failed:
            counts[reason] = counts.get(reason, 0) + 1
            here[reason] = here.get(reason, 0) + 1
        if failed and not passed:
            backoff = self.backoff.failed(policy, here, now_ms)
        elif bad and self.backoff.consecutive_failure_rounds:
            backoff = self.backoff.decayed()
        else:
            backoff = self.backoff.cleared()
        return attrs.evolve(
            self,
            backoff=backoff,
            suspects=tuple(bad)[-SUSPECTS_MAX:],
            passed=self.passed + len(passed),
            failures=counts,
            last_checked_ms=now_ms,
        )
