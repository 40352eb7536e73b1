"""The single writer's lease as pure functions of its state and of block time (network-storage 6.5, D4).

A lease is granted by a committed action, so that all nodes agree on the holder, and its time is that of blocks. The
term counts grants and never repeats: what was written under a lower one came from a writer that has been superseded.
"""

from __future__ import annotations

import attrs

from agent_world.crypto.hashing import hash32
from agent_world.wire.ids import U64, Hash32, Label, TimeMs, ValidatorId
from agent_world.wire.lease import LeaseState
from agent_world.wire.limits import I64_MAX, U64_MAX

TTL_NOT_POSITIVE = Label("lease_ttl_not_positive")
HELD = Label("lease_held")
OVERFLOW = Label("lease_overflow")
NONE = Label("lease_not_held")
OTHER = Label("lease_id_differs")


@attrs.frozen(slots=True, kw_only=True)
class LeaseDecision:
    """What became of a request for the lease."""

    granted: bool
    lease: LeaseState | None
    """The lease granted or extended, or the one that stands in the way."""
    term: U64
    """Last term granted so far, also when no lease is left."""
    reason: Label | None = None
    """Why it was denied."""


def is_active(lease: LeaseState | None, now_ms: int) -> bool:
    """Whether somebody holds the lease at this block time; at ``expires_at_ms`` itself nobody does any more."""
    return lease is not None and lease.expires_at_ms > now_ms


def holds(lease: LeaseState | None, holder_id: ValidatorId, now_ms: int) -> bool:
    """Whether this validator holds the lease at this block time."""
    return lease is not None and lease.holder_id == holder_id and is_active(lease, now_ms)


def try_acquire(
    lease: LeaseState | None, term: U64, holder_id: ValidatorId, *, now_ms: TimeMs, ttl_ms: int
) -> LeaseDecision:
    """Grant the lease if nobody holds it, not even the asker; ``term`` is the last one granted."""
    if ttl_ms <= 0:
        return _denied(lease, term, TTL_NOT_POSITIVE)
    if is_active(lease, now_ms):
        return _denied(lease, term, HELD)
    if term >= U64_MAX or now_ms + ttl_ms > I64_MAX:
        return _denied(lease, term, OVERFLOW)
    next_term = U64(term + 1)
    granted = LeaseState(
        holder_id=holder_id,
        lease_id=lease_id_of(holder_id, now_ms, next_term),
        acquired_at_ms=now_ms,
        expires_at_ms=TimeMs(now_ms + ttl_ms),
        term=next_term,
    )
    return LeaseDecision(granted=True, lease=granted, term=next_term)


def renew(lease: LeaseState | None, term: U64, lease_id: Hash32, *, now_ms: TimeMs, ttl_ms: int) -> LeaseDecision:
    """Move the end of an active lease to ``ttl_ms`` from now; id and term stay."""
    if ttl_ms <= 0:
        return _denied(lease, term, TTL_NOT_POSITIVE)
    if lease is None or not is_active(lease, now_ms):
        return _denied(lease, term, NONE)
    if lease.lease_id != lease_id:
        return _denied(lease, term, OTHER)
    if now_ms + ttl_ms > I64_MAX:
        return _denied(lease, term, OVERFLOW)
    return LeaseDecision(granted=True, lease=attrs.evolve(lease, expires_at_ms=TimeMs(now_ms + ttl_ms)), term=term)


def release(lease: LeaseState | None, lease_id: Hash32) -> bool:
    """Whether the lease of this id is there to be given up."""
    return lease is not None and lease.lease_id == lease_id


def expire_if_needed(lease: LeaseState | None, now_ms: int) -> LeaseState | None:
    """The lease if it has run out at this block time, None otherwise."""
    return lease if lease is not None and not is_active(lease, now_ms) else None


def lease_id_of(holder_id: ValidatorId, acquired_at_ms: int, term: int) -> Hash32:
    """BLAKE3 of the text ``<holder>:<acquired at>:<term>``."""
    return hash32(f"{holder_id}:{acquired_at_ms}:{term}".encode())


def _denied(lease: LeaseState | None, term: U64, reason: Label) -> LeaseDecision:
    return LeaseDecision(granted=False, lease=lease, term=term, reason=reason)
