"""Provider records and their ranking (T-1.6, T-3.6, T-3.8, T-9.16)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.distfs.providers import (
    ProviderRecord,
    ProviderSelectionPolicy,
    parse_provider,
    provider_json,
    rank_providers,
    score,
)
from agent_world.errors import DecodeError, UsageError
from agent_world.testing.stack import make_key
from agent_world.wire.ids import PeerId, peer_id_of
from agent_world.wire.limits import I64_MAX

PEERS = [peer_id_of(make_key("provider", str(number)).public_key) for number in range(4)]
NOW = 1_000_000
GOOD = {
    "storage_total_bytes": 100, "storage_available_bytes": 90, "uptime_ratio_per_mille": 990,
    "challenge_pass_ratio_per_mille": 1_000, "load_ratio_per_mille": 100, "p50_read_latency_ms": 20,
}  # fmt: skip
WEAK = {
    "storage_total_bytes": 100, "storage_available_bytes": 1, "uptime_ratio_per_mille": 100,
    "challenge_pass_ratio_per_mille": 200, "load_ratio_per_mille": 950, "p50_read_latency_ms": 900,
}  # fmt: skip


def a_record(number: int, last_seen_ms: int = NOW, **known: int) -> ProviderRecord:
    return ProviderRecord(provider_id=PEERS[number], last_seen_ms=last_seen_ms, **known)


def order(*records: ProviderRecord, policy: ProviderSelectionPolicy | None = None) -> list[PeerId]:
    ranked = rank_providers(records, NOW) if policy is None else rank_providers(records, NOW, policy)
    return [record.provider_id for record in ranked]


def test_t_1_6_a_record_of_two_keys_is_read_and_what_is_unknown_is_not_written() -> None:
    legacy = {"provider_id": PEERS[0], "last_seen_ms": 5}
    found = parse_provider(legacy)
    assert found == a_record(0, 5)
    assert provider_json(found) == legacy
    whole = a_record(1, 7, **GOOD)
    assert parse_provider(provider_json(whole)) == whole
    some = attrs.evolve(found, load_ratio_per_mille=0)
    assert provider_json(some) == {**legacy, "load_ratio_per_mille": 0}


@pytest.mark.parametrize("wrong", [
    None, [], {}, {"provider_id": PEERS[0]}, {"last_seen_ms": 5}, {"provider_id": "x", "last_seen_ms": 5},
    {"provider_id": PEERS[0], "last_seen_ms": "5"}, {"provider_id": PEERS[0], "last_seen_ms": True},
    {"provider_id": PEERS[0], "last_seen_ms": 2**64}, {"provider_id": PEERS[0], "last_seen_ms": 5, "more": 1},
    {"provider_id": PEERS[0], "last_seen_ms": 5, "uptime_ratio_per_mille": 2**16},
    {"provider_id": PEERS[0], "last_seen_ms": 5, "storage_total_bytes": -1},
    {"provider_id": PEERS[0], "last_seen_ms": 5, "storage_total_bytes": 1.5},
])  # fmt: skip
def test_a_record_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(DecodeError):
        parse_provider(wrong)


def test_t_3_6_strong_before_unknown_before_weak_and_fresh_before_stale() -> None:
    strong, unknown, weak = a_record(0, **GOOD), a_record(1), a_record(2, **WEAK)
    assert order(weak, unknown, strong) == [PEERS[0], PEERS[1], PEERS[2]]
    assert order(a_record(0, NOW - 500_000), a_record(1, NOW - 10)) == [PEERS[1], PEERS[0]]
    assert all(math.isfinite(score(record, NOW)) for record in (strong, unknown, weak))


def test_the_components_are_those_of_the_formula() -> None:
    found = a_record(0, NOW - 150_000, **GOOD)
    parts = [0.2 * 0.75, 0.2 * 0.99, 0.2 * 1.0, 0.2 * 0.9, 0.1 * 0.9, 0.1 * 0.98]
    assert score(found, NOW) == pytest.approx(sum(parts))
    assert score(a_record(0), NOW) == pytest.approx(0.2 + 0.8 * 0.5)
    only = ProviderSelectionPolicy(freshness=0, uptime=0, challenge=0, capacity=0, load=0, latency=0)
    assert score(found, NOW, only) == 0.75
    assert score(found, NOW, attrs.evolve(only, freshness_ttl_ms=0)) == 0.5
    full = attrs.evolve(only, capacity=1)
    assert score(a_record(0, storage_total_bytes=0, storage_available_bytes=0), NOW, full) == 0
    assert score(a_record(0, storage_total_bytes=5, storage_available_bytes=9), NOW, full) == 1
    assert score(a_record(0, storage_total_bytes=5), NOW, full) == 0.5
    over = a_record(0, uptime_ratio_per_mille=5_000, load_ratio_per_mille=5_000, p50_read_latency_ms=10**6)
    assert score(over, NOW, attrs.evolve(only, uptime=1)) == 1
    assert score(over, NOW, attrs.evolve(only, load=1)) == score(over, NOW, attrs.evolve(only, latency=1)) == 0


def test_t_3_8_the_largest_and_the_smallest_time_overflow_nothing() -> None:
    assert order(a_record(0, 0), a_record(1, I64_MAX)) == [PEERS[1], PEERS[0]]
    assert order(a_record(0, -I64_MAX), a_record(1, 0)) == [PEERS[1], PEERS[0]]


def test_of_one_provider_the_best_record_counts_and_the_list_is_cut() -> None:
    records = [a_record(0, 0), a_record(0, **GOOD), a_record(1), a_record(2), a_record(3)]
    assert order(*records, policy=ProviderSelectionPolicy(max_candidates=0))[0] == PEERS[0]
    assert len(order(*records, policy=ProviderSelectionPolicy(max_candidates=0))) == 4
    assert len(order(*records, policy=ProviderSelectionPolicy(max_candidates=2))) == 2
    with pytest.raises(UsageError):
        ProviderSelectionPolicy(load=-1)


records = st.builds(
    ProviderRecord,
    provider_id=st.sampled_from(PEERS),
    last_seen_ms=st.integers(-I64_MAX, I64_MAX),
    storage_total_bytes=st.none() | st.integers(0, 2**64 - 1),
    storage_available_bytes=st.none() | st.integers(0, 2**64 - 1),
    uptime_ratio_per_mille=st.none() | st.integers(0, 2**16 - 1),
    challenge_pass_ratio_per_mille=st.none() | st.integers(0, 2**16 - 1),
    load_ratio_per_mille=st.none() | st.integers(0, 2**16 - 1),
    p50_read_latency_ms=st.none() | st.integers(0, 2**32 - 1),
)


@given(st.lists(records, max_size=8), st.randoms())
def test_t_9_16_ranking_is_a_total_order(found: list[ProviderRecord], random: Any) -> None:
    ranked = rank_providers(found, NOW)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert rank_providers(shuffled, NOW) == ranked
    assert all(0 <= score(record, NOW) <= 1 for record in found)
    assert all(score(one, NOW) >= score(next_one, NOW) for one, next_one in pairwise(ranked))
    assert len({record.provider_id for record in ranked}) == len(ranked)
    assert all(parse_provider(provider_json(record)) == record for record in found)
