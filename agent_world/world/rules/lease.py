"""lease.acquire, lease.renew and lease.release: who is the world's single writer, by committed block time only."""

from __future__ import annotations

from agent_world.sequencer import lease
from agent_world.wire.ids import U64
from agent_world.wire.lease import AcquireLease, LeaseState, ReleaseLease, RenewLease
from agent_world.wire.limits import LEASE_TTL_MS_MAX
from agent_world.world.events import LeaseChanged
from agent_world.world.queries import held_lease
from agent_world.world.reasons import LEASE_NOT_YOURS, LEASE_TTL_TOO_LONG, RuleRefusal, refuse_unless
from agent_world.world.records import LEASE, LeaseRecord
from agent_world.world.rules.context import RuleContext

_NEVER_GRANTED = LeaseRecord(term=U64(0), lease=None)


def acquire_lease(context: RuleContext, payload: AcquireLease) -> None:
    """Give the lease to a validator if nobody of the set holds it at this block's time."""
    own = context.validator().validator_id
    refuse_unless(payload.ttl_ms <= LEASE_TTL_MS_MAX, LEASE_TTL_TOO_LONG)
    held = context.state.get(LEASE) or _NEVER_GRANTED
    in_the_way = held_lease(context.state, context.timestamp_ms)
    decision = lease.try_acquire(in_the_way, held.term, own, now_ms=context.timestamp_ms, ttl_ms=payload.ttl_ms)
    _take(context, decision)


def renew_lease(context: RuleContext, payload: RenewLease) -> None:
    """Let the holder keep an active lease for longer."""
    refuse_unless(payload.ttl_ms <= LEASE_TTL_MS_MAX, LEASE_TTL_TOO_LONG)
    held = context.state.get(LEASE) or _NEVER_GRANTED
    _require_own(context, held.lease)
    decision = lease.renew(held.lease, held.term, payload.lease_id, now_ms=context.timestamp_ms, ttl_ms=payload.ttl_ms)
    _take(context, decision)


def release_lease(context: RuleContext, payload: ReleaseLease) -> None:
    """Let the holder give its lease up; the term stays counted."""
    held = context.state.get(LEASE) or _NEVER_GRANTED
    _require_own(context, held.lease)
    refuse_unless(lease.release(held.lease, payload.lease_id), lease.OTHER)
    context.state.put(LEASE, LeaseRecord(term=held.term, lease=None))
    context.emit(LeaseChanged(term=held.term, holder_id=None, expires_at_ms=context.timestamp_ms))


def _require_own(context: RuleContext, current: LeaseState | None) -> None:
    own = context.validator().validator_id
    if current is None:
        raise RuleRefusal(lease.NONE)
    refuse_unless(current.holder_id == own, LEASE_NOT_YOURS)


def _take(context: RuleContext, decision: lease.LeaseDecision) -> None:
    if decision.reason is not None or decision.lease is None:
        raise RuleRefusal(decision.reason or lease.NONE)
    context.state.put(LEASE, LeaseRecord(term=decision.term, lease=decision.lease))
    granted = decision.lease
    context.emit(LeaseChanged(term=granted.term, holder_id=granted.holder_id, expires_at_ms=granted.expires_at_ms))
