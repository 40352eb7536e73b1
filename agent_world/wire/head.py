"""Messages of protocols/head: which height the world is at, with its proof."""

from __future__ import annotations

import attrs

from agent_world.wire.cid import Cid
from agent_world.wire.ids import U16, U64, Hash32, TimeMs, WorldId
from agent_world.wire.record import V1


@attrs.frozen(slots=True, kw_only=True)
class WorldHead:
    """The last committed block in short (the reference calls it WorldHeadAnnounce)."""

    v: U16 = U16(V1)
    world_id: WorldId
    height: U64
    """0 for a world that has only its genesis; block_hash is then the genesis hash."""
    block_hash: Hash32
    state_root: Cid
    timestamp_ms: TimeMs


@attrs.frozen(slots=True, kw_only=True)
class CertifiedHead:
    """A head and what proves it; also the gossip message on ``aw.<world>.head``."""

    v: U16 = U16(V1)
    head: WorldHead
    block: bytes
    """Encoded WorldBlock; empty at height 0."""
    certificate: bytes
    """Encoded CommitCertificate; empty at height 0."""


@attrs.frozen(slots=True, kw_only=True)
class GetWorldHeadRequest:
    """get_world_head; the answer is a CertifiedHead."""

    world_id: WorldId
