import random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.errors import ErrorCode, LocalError, Refused, Unavailable, UsageError
from agent_world.net.retry import RetryPolicy, retry

POLICY = RetryPolicy(attempts_max=4, delay_min_s=0.1, delay_max_s=10, deadline_s=60)


class Server:
    """Fails ``failures`` times with ``error``, then answers; notes when it was asked."""

    def __init__(self, error: Exception, failures: int) -> None:
        self.error = error
        self.failures = failures
        self.asked_at: list[float] = []

    async def ask(self) -> str:
        await trio.lowlevel.checkpoint()
        self.asked_at.append(trio.current_time())
        if len(self.asked_at) <= self.failures:
            raise self.error
        return "answer"

    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.asked_at, self.asked_at[1:], strict=False)]


@pytest.mark.parametrize("code", ErrorCode)
async def test_each_code_is_retried_or_not_as_the_table_says(code: ErrorCode, autojump_clock: object) -> None:  # T-9.13
    server = Server(Refused(code, "no"), failures=10)
    started = trio.current_time()
    with pytest.raises(Refused) as caught:
        await retry(server.ask, POLICY, random.Random(1))
    assert caught.value.code is code
    assert len(server.asked_at) == (POLICY.attempts_max if code.retryable else 1)
    assert server.pauses() == sorted(server.pauses())
    assert all(pause > 0 for pause in server.pauses())
    assert trio.current_time() - started <= POLICY.deadline_s


@pytest.mark.parametrize("code", [code for code in ErrorCode if code.retryable])
async def test_success_after_failures(code: ErrorCode, autojump_clock: object) -> None:
    server = Server(Refused(code, "no"), failures=3)
    assert await retry(server.ask, POLICY, random.Random(1)) == "answer"
    assert len(server.asked_at) == 4


async def test_the_flag_counts_as_sent_not_the_code(autojump_clock: object) -> None:
    refused_for_good = Server(Refused(ErrorCode.BUSY, "for ever", retryable=False), failures=1)
    with pytest.raises(Refused):
        await retry(refused_for_good.ask, POLICY, random.Random(1))
    comes_back = Server(Refused(ErrorCode.NOT_FOUND, "not yet", retryable=True), failures=1)
    assert await retry(comes_back.ask, POLICY, random.Random(1)) == "answer"


async def test_unavailable_is_retried_and_other_errors_are_not(autojump_clock: object) -> None:
    assert await retry(Server(Unavailable("nobody"), failures=2).ask, POLICY, random.Random(1)) == "answer"
    bug = Server(LocalError("bug"), failures=1)
    with pytest.raises(LocalError):
        await retry(bug.ask, POLICY, random.Random(1))
    assert len(bug.asked_at) == 1


async def test_deadline_ends_an_attempt_that_hangs(autojump_clock: object) -> None:
    with pytest.raises(Refused) as caught:
        await retry(trio.sleep_forever, RetryPolicy(deadline_s=3), random.Random(1))
    assert caught.value.code is ErrorCode.TIMEOUT
    assert trio.current_time() == pytest.approx(3)


async def test_no_pause_reaches_over_the_deadline(autojump_clock: object) -> None:
    policy = RetryPolicy(attempts_max=100, delay_min_s=1, delay_max_s=100, jitter=0, deadline_s=10)
    server = Server(Unavailable("nobody"), failures=100)
    with pytest.raises(Unavailable):
        await retry(server.ask, policy, random.Random(1))
    assert server.asked_at == [0, 1, 3, 7]  # the next would come at 15: the error is told at once


@given(st.integers(0, 5000), st.integers(0, 2**32))
@settings(deadline=None, max_examples=100)
def test_pauses_stay_within_bounds_and_never_shrink(attempt: int, seed: int) -> None:
    rng = random.Random(seed)
    assert POLICY.delay_min_s / 2 <= POLICY.delay_s(attempt, rng) <= POLICY.delay_max_s
    if attempt < 6:
        assert POLICY.delay_s(attempt, rng) <= POLICY.delay_s(attempt + 1, rng)


@pytest.mark.parametrize(
    "wrong", [{"attempts_max": 0}, {"delay_min_s": 0}, {"jitter": 0.6}, {"deadline_s": 0}, {"delay_max_s": 0.01}]
)
def test_a_policy_is_checked_when_made(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        RetryPolicy(**wrong)  # type: ignore[arg-type]
