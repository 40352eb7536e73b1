"""What an event of each kind tells: the records inside ``Event.payload_cbor``."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.wire.cid import Cid
from agent_world.wire.ids import I64, U64, ActorId, Label, Name


@attrs.frozen(slots=True, kw_only=True)
class AgentRegistered:
    """agent.registered: a new actor."""

    actor_id: ActorId
    name: Name
    sponsor: ActorId
    registration_quota: U64
    """What the new actor got of the sponsor's quota."""


@attrs.frozen(slots=True, kw_only=True)
class AgentMoved:
    """agent.moved: where the agent is now, in cm."""

    actor_id: ActorId
    x_cm: I64
    y_cm: I64
    z_cm: I64


@attrs.frozen(slots=True, kw_only=True)
class ResourceGranted:
    """resource.granted: new units came into the world."""

    resource: Name
    to_actor_id: ActorId
    amount: U64


@attrs.frozen(slots=True, kw_only=True)
class ResourceTransferred:
    """resource.transferred: units changed their owner."""

    resource: Name
    from_actor_id: ActorId
    to_actor_id: ActorId
    amount: U64


@attrs.frozen(slots=True, kw_only=True)
class ObjectCreated:
    """object.created: a new object and the link to its content."""

    object_id: Name
    owner: ActorId
    content: Cid
    size_bytes: U64


AGENT_REGISTERED: Final = Label("agent.registered")
AGENT_MOVED: Final = Label("agent.moved")
RESOURCE_GRANTED: Final = Label("resource.granted")
RESOURCE_TRANSFERRED: Final = Label("resource.transferred")
OBJECT_CREATED: Final = Label("object.created")

EVENTS: Final[dict[Label, type]] = {
    AGENT_REGISTERED: AgentRegistered,
    AGENT_MOVED: AgentMoved,
    RESOURCE_GRANTED: ResourceGranted,
    RESOURCE_TRANSFERRED: ResourceTransferred,
    OBJECT_CREATED: ObjectCreated,
}
"""Which record an event kind carries."""
KIND_OF: Final[dict[type, Label]] = {payload: kind for kind, payload in EVENTS.items()}
"""Inverse of ``EVENTS``."""
