"""The lease of the world's single writer: its state, and the payloads of the actions that move it (D4)."""

from __future__ import annotations

import attrs

from agent_world.wire.ids import U64, Hash32, TimeMs, ValidatorId


@attrs.frozen(slots=True, kw_only=True)
class LeaseState:
    """A lease that was granted. It is active while ``expires_at_ms`` lies after the block time."""

    holder_id: ValidatorId
    lease_id: Hash32
    """BLAKE3 of the text ``<holder_id>:<acquired_at_ms>:<term>``."""
    acquired_at_ms: TimeMs
    expires_at_ms: TimeMs
    term: U64
    """1 for the world's first lease, then one more a grant: the fencing token of what its holder writes."""


@attrs.frozen(slots=True, kw_only=True)
class AcquireLease:
    """lease.acquire: a validator takes the lease if nobody holds it."""

    ttl_ms: U64


@attrs.frozen(slots=True, kw_only=True)
class RenewLease:
    """lease.renew: its holder keeps it for ``ttl_ms`` from the block's time on."""

    lease_id: Hash32
    ttl_ms: U64


@attrs.frozen(slots=True, kw_only=True)
class ReleaseLease:
    """lease.release: its holder gives it up."""

    lease_id: Hash32
