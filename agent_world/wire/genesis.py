"""The first state of a world as a record; its hash is what every signature and handshake of the world carries."""

from __future__ import annotations

import attrs

from agent_world.wire.consensus import ValidatorSetRecord
from agent_world.wire.ids import U16, U64, PublicKey, TimeMs, WorldId
from agent_world.wire.record import V1


@attrs.frozen(slots=True, kw_only=True)
class WorldParams:
    """The world's constants that execution reads."""

    move_speed_max_cm_per_s: U64
    actor_storage_quota_bytes: U64
    """What one agent's objects may state in all."""


@attrs.frozen(slots=True, kw_only=True)
class Genesis:
    """Everything that the nodes of a world must agree on before its first block."""

    v: U16 = U16(V1)
    world_id: WorldId
    genesis_time_ms: TimeMs
    authority: PublicKey
    """The genesis authority's agent key: may register agents and grant resources."""
    epoch_length_slots: U64
    validators: ValidatorSetRecord
    slash_equivocation: bool
    """Whether a validator that signed two messages for one place loses its seat with the next epoch."""
    params: WorldParams
