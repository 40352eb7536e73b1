"""One way to ask again: bounded attempts, exponential back-off with jitter, one deadline over all (K-1.1)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs
import trio

from agent_world.config import require
from agent_world.errors import ErrorCode, Refused, Unavailable

T = TypeVar("T")


@attrs.frozen(slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long; durations in seconds."""

    attempts_max: int = 5
    delay_min_s: float = 0.1
    """Pause before the second attempt; doubles with every further one."""
    delay_max_s: float = 5.0
    jitter: float = 0.5
    """Share of a pause that is random. At most 0.5, so that a pause is never shorter than the one before it."""
    deadline_s: float = 30.0
    """Everything together, attempts and pauses."""

    def __attrs_post_init__(self) -> None:
        require(self.attempts_max >= 1, "retry.attempts_max must be above 0")
        require(0 < self.delay_min_s <= self.delay_max_s, "retry.delay_min_s must be above 0 and below delay_max_s")
        require(0 <= self.jitter <= 0.5, "retry.jitter must be between 0 and 0.5")
        require(self.deadline_s > 0, "retry.deadline_s must be above 0")

    def delay_s(self, attempt: int, rng: random.Random) -> float:
        """Pause after failed attempt number ``attempt`` (from 0)."""
        # The exponent is capped: 2**64 times any pause is over every maximum, and floats end at 2**1023.
        longest = min(self.delay_max_s, self.delay_min_s * 2.0 ** min(attempt, 64))
        return longest * (1 - self.jitter * rng.random())


DEFAULT_RETRY: Final = RetryPolicy()


async def retry(ask: Callable[[], Awaitable[T]], policy: RetryPolicy, rng: random.Random) -> T:
    """``ask`` until it succeeds, is refused for good, or attempts or time are used up.

    Asked again is after Unavailable and after a Refused whose ``retryable`` is set, as sent. ``ask`` must be safe to
    repeat. Raises the last of these errors; Refused with ERR_TIMEOUT if the deadline ended the first attempt; any
    other error at once.
    """
    last: Refused | Unavailable | None = None
    with trio.move_on_after(policy.deadline_s) as scope:
        for attempt in range(policy.attempts_max):
            try:
                return await ask()
            except Refused as error:
                if not error.retryable:
                    raise
                last = error
            except Unavailable as error:
                last = error
            delay_s = policy.delay_s(attempt, rng)
            if attempt + 1 == policy.attempts_max or trio.current_time() + delay_s >= scope.deadline:
                raise last
            await trio.sleep(delay_s)
    raise last or Refused(ErrorCode.TIMEOUT, f"no answer within {policy.deadline_s} s")
