"""agent.register: a sponsor brings a new key into the world and pays with its registration quota (D3)."""

from __future__ import annotations

import attrs

from agent_world.crypto.hashing import actor_id_of
from agent_world.wire.action import RegisterAgent
from agent_world.wire.ids import U64
from agent_world.world.events import AgentRegistered
from agent_world.world.reasons import (
    INSUFFICIENT_REGISTRATION_QUOTA,
    KEY_TAKEN,
    UNLIMITED_QUOTA_RESERVED,
    refuse_unless,
)
from agent_world.world.records import ACTORS, UNLIMITED_QUOTA, ActorRecord
from agent_world.world.rules.context import RuleContext


def register_agent(context: RuleContext, payload: RegisterAgent) -> None:
    """Add the actor of ``payload.public_key``; the sponsor's quota falls by 1 + what it hands over."""
    actor_id = actor_id_of(payload.public_key)
    sponsor = context.actor()
    refuse_unless(context.state.get(ACTORS, actor_id) is None, KEY_TAKEN)
    refuse_unless(payload.registration_quota != UNLIMITED_QUOTA, UNLIMITED_QUOTA_RESERVED)
    if sponsor.registration_quota != UNLIMITED_QUOTA:
        cost = 1 + payload.registration_quota
        refuse_unless(sponsor.registration_quota >= cost, INSUFFICIENT_REGISTRATION_QUOTA)
        left = U64(sponsor.registration_quota - cost)
        context.state.put(ACTORS, attrs.evolve(sponsor, registration_quota=left), context.actor_id)
    newcomer = ActorRecord(
        name=payload.name,
        public_key=payload.public_key,
        nonce=U64(0),
        registration_quota=payload.registration_quota,
        storage_used_bytes=U64(0),
    )
    context.state.put(ACTORS, newcomer, actor_id)
    context.emit(
        AgentRegistered(
            actor_id=actor_id,
            name=payload.name,
            sponsor=context.actor_id,
            registration_quota=payload.registration_quota,
        )
    )
