from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.config import NetConfig
from agent_world.net import rates as module
from agent_world.net.rates import OWN_SHARE, Buckets, Rate, RateClass, TokenBucket, class_of, rates_of
from agent_world.wire import rpc


def test_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(Rate(per_s=10, burst=3), 0.0)
    assert [bucket.take(1, 0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait_s(1, 0.0) == 0.1
    assert not bucket.take(1, 0.05)
    assert bucket.take(1, 0.11)
    assert [bucket.take(1, 100.0) for _ in range(4)] == [True, True, True, False]


def test_more_than_a_burst_counts_as_a_burst() -> None:
    bucket = TokenBucket(Rate(per_s=10, burst=5), 0.0)
    assert bucket.take(1_000, 0.0)
    assert bucket.wait_s(1_000, 0.0) == 0.5


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(Rate(per_s=10, burst=1), 5.0)
    assert bucket.take(1, 5.0)
    assert not bucket.take(1, 0.0)
    assert not bucket.take(1, 5.05)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.1, 4)), max_size=60), st.floats(0.5, 20), st.floats(1, 10))
def test_never_more_than_burst_and_rate(steps: list[tuple[float, float]], per_s: float, burst: float) -> None:
    bucket, now, taken = TokenBucket(Rate(per_s, burst), 0.0), 0.0, 0.0
    for pause, amount in steps:
        now += pause
        if bucket.take(amount, now):
            taken += min(amount, burst)
        assert taken <= burst + per_s * now + 1e-6
        waited = now + bucket.wait_s(amount, now) + 1e-9
        assert TokenBucket(Rate(per_s, burst), bucket.filled_s, bucket.tokens).take(amount - 1e-6, waited)


def test_keys_have_buckets_of_their_own_and_are_bounded() -> None:
    buckets: Buckets[int] = Buckets(Rate(per_s=1, burst=1))
    assert buckets.of(1, 0.0).take(1, 0.0)
    assert buckets.of(2, 0.0).take(1, 0.0)
    assert not buckets.of(1, 0.0).take(1, 0.0)
    for key in range(module.KEYS_MAX + 10):
        buckets.of(1, 0.0)  # used all the time: never forgotten
        buckets.of(key + 10, 0.0)
    assert len(buckets) == module.KEYS_MAX
    assert not buckets.of(1, 0.0).take(1, 0.0)
    assert buckets.of(2, 0.0).take(1, 0.0)


def test_every_class_has_a_rate_and_every_method_a_class() -> None:
    assert set(rates_of(NetConfig())) == set(RateClass)
    assert class_of(rpc.GET_RECEIPT) is RateClass.REQUEST
    assert class_of(rpc.STREAM_BLOBS) is class_of(rpc.GET_BLOCKS) is RateClass.CONTENT
    assert class_of(rpc.SUBMIT_ACTION) is class_of(rpc.HELLO) is class_of(rpc.GET_PENDING) is RateClass.SUBMIT
    assert class_of("/aw/rr/1.0.0/unheard_of") is RateClass.REQUEST


def test_own_share_is_below_what_others_accept() -> None:
    rate = Rate(per_s=10, burst=100)
    assert rate.share(OWN_SHARE).per_s < rate.per_s
    assert rate.share(OWN_SHARE).burst < rate.burst
