"""T-6.5: acquire, deny, expire, renew, release, overflow; and that no term is given twice."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.crypto.hashing import hash32
from agent_world.sequencer import lease
from agent_world.sequencer.lease import LeaseDecision, expire_if_needed, holds, is_active, release, renew, try_acquire
from agent_world.wire.ids import U64, TimeMs, ValidatorId
from agent_world.wire.lease import LeaseState
from agent_world.wire.limits import I64_MAX, U64_MAX

A, B = ValidatorId("a"), ValidatorId("b")


def granted(now: int = 1_000, ttl: int = 500, term: int = 0) -> LeaseState:
    decision = try_acquire(None, U64(term), A, now_ms=TimeMs(now), ttl_ms=ttl)
    assert decision.granted
    assert decision.lease is not None
    return decision.lease


def test_the_first_lease() -> None:
    assert granted() == LeaseState(
        holder_id=A,
        lease_id=hash32(b"a:1000:1"),
        acquired_at_ms=TimeMs(1_000),
        expires_at_ms=TimeMs(1_500),
        term=U64(1),
    )


def test_nobody_gets_a_lease_that_is_held_not_even_its_holder() -> None:
    held = granted()
    for asker in (A, B):
        decision = try_acquire(held, held.term, asker, now_ms=TimeMs(1_499), ttl_ms=500)
        assert decision == LeaseDecision(granted=False, lease=held, term=held.term, reason=lease.HELD)


def test_at_its_end_it_is_over_and_the_next_term_follows() -> None:
    held = granted()
    assert is_active(held, 1_499)
    assert holds(held, A, 1_499)
    assert not holds(held, B, 1_499)
    assert not is_active(held, 1_500)
    assert not holds(held, A, 1_500)
    assert expire_if_needed(held, 1_499) is None
    assert expire_if_needed(held, 1_500) == held
    taken = try_acquire(held, held.term, B, now_ms=TimeMs(1_500), ttl_ms=500)
    assert taken.lease is not None
    assert (taken.lease.holder_id, taken.lease.term) == (B, 2)


def test_renewing_moves_the_end_only() -> None:
    held = granted()
    decision = renew(held, held.term, held.lease_id, now_ms=TimeMs(1_400), ttl_ms=500)
    assert decision.granted
    assert decision.lease == attrs.evolve(held, expires_at_ms=TimeMs(1_900))


@pytest.mark.parametrize(("current", "lease_id", "now", "ttl", "reason"), [
    (None, hash32(b""), 1_400, 500, lease.NONE),
    (granted(), granted().lease_id, 1_500, 500, lease.NONE),
    (granted(), hash32(b"another"), 1_400, 500, lease.OTHER),
    (granted(), granted().lease_id, 1_400, 0, lease.TTL_NOT_POSITIVE),
    (granted(ttl=I64_MAX - 1_000), granted().lease_id, 1_400, I64_MAX, lease.OVERFLOW),
])  # fmt: skip
def test_what_is_not_renewed(current: LeaseState | None, lease_id: bytes, now: int, ttl: int, reason: str) -> None:
    decision = renew(current, U64(1), hash32(b"") if current is None else lease_id, now_ms=TimeMs(now), ttl_ms=ttl)  # type: ignore[arg-type]
    assert (decision.granted, decision.lease, decision.reason) == (False, current, reason)


@pytest.mark.parametrize(("term", "now", "ttl", "reason"), [
    (0, 5, 0, lease.TTL_NOT_POSITIVE),
    (0, 5, -1, lease.TTL_NOT_POSITIVE),
    (U64_MAX, 5, 1, lease.OVERFLOW),
    (0, I64_MAX, 1, lease.OVERFLOW),
])  # fmt: skip
def test_what_is_not_granted_changes_nothing(term: int, now: int, ttl: int, reason: str) -> None:
    decision = try_acquire(None, U64(term), A, now_ms=TimeMs(now), ttl_ms=ttl)
    assert decision == LeaseDecision(granted=False, lease=None, term=U64(term), reason=reason)  # type: ignore[arg-type]


def test_releasing() -> None:
    held = granted()
    assert release(held, held.lease_id)
    assert not release(held, hash32(b"another"))
    assert not release(None, held.lease_id)


@given(st.lists(st.tuples(st.sampled_from("arx"), st.sampled_from([A, B]), st.integers(0, 400), st.integers(1, 500))))
def test_terms_only_rise_and_one_validator_holds_it_at_a_time(steps: list[tuple[str, ValidatorId, int, int]]) -> None:
    current: LeaseState | None = None
    term, now, granted_terms = U64(0), 0, []
    for what, who, pause, ttl in steps:
        now += pause
        before = current
        if what == "a":
            decision = try_acquire(current, term, who, now_ms=TimeMs(now), ttl_ms=ttl)
            current, term = decision.lease, decision.term
            if decision.granted:
                assert not is_active(before, now)
                granted_terms.append(term)
        elif current is not None and what == "r":
            current = renew(current, term, current.lease_id, now_ms=TimeMs(now), ttl_ms=ttl).lease
        elif current is not None and current.holder_id == who and release(current, current.lease_id):
            current = None
    assert granted_terms == sorted(set(granted_terms)) == list(range(1, len(granted_terms) + 1))
