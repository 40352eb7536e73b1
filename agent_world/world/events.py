"""What an event of each kind tells: the records inside ``Event.payload_cbor``."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.wire.cid import Cid
from agent_world.wire.evidence import EvidenceKind
from agent_world.wire.ids import I64, U32, U64, ActorId, Hash32, Label, Name, TimeMs, ValidatorId


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


@attrs.frozen(slots=True, kw_only=True)
class MembershipFiled:
    """membership.filed: a change of the validator set waits for approvals."""

    change_id: Hash32
    requester_id: ValidatorId


@attrs.frozen(slots=True, kw_only=True)
class MembershipDecided:
    """membership.decided: a change was approved, or will not be."""

    change_id: Hash32
    approved: bool
    code: Label
    """``ok``, or why not."""


@attrs.frozen(slots=True, kw_only=True)
class ValidatorsChanged:
    """validators.changed: another set takes over with the next height."""

    epoch: U64
    validators_hash: Hash32


@attrs.frozen(slots=True, kw_only=True)
class EquivocationRecorded:
    """evidence.recorded: a validator was shown to have signed two messages for one height and round."""

    validator_id: ValidatorId
    kind: EvidenceKind
    height: U64
    round: U32
    loses_seat: bool
    """Whether it will be in no set from the next epoch on."""


@attrs.frozen(slots=True, kw_only=True)
class LeaseChanged:
    """lease.changed: the lease was granted, extended or given up."""

    term: U64
    holder_id: ValidatorId | None
    """None once it was given up."""
    expires_at_ms: TimeMs


AGENT_REGISTERED: Final = Label("agent.registered")
AGENT_MOVED: Final = Label("agent.moved")
RESOURCE_GRANTED: Final = Label("resource.granted")
RESOURCE_TRANSFERRED: Final = Label("resource.transferred")
OBJECT_CREATED: Final = Label("object.created")
MEMBERSHIP_FILED: Final = Label("membership.filed")
MEMBERSHIP_DECIDED: Final = Label("membership.decided")
VALIDATORS_CHANGED: Final = Label("validators.changed")
EQUIVOCATION_RECORDED: Final = Label("evidence.recorded")
LEASE_CHANGED: Final = Label("lease.changed")

EVENTS: Final[dict[Label, type]] = {
    AGENT_REGISTERED: AgentRegistered,
    AGENT_MOVED: AgentMoved,
    RESOURCE_GRANTED: ResourceGranted,
    RESOURCE_TRANSFERRED: ResourceTransferred,
    OBJECT_CREATED: ObjectCreated,
    MEMBERSHIP_FILED: MembershipFiled,
    MEMBERSHIP_DECIDED: MembershipDecided,
    VALIDATORS_CHANGED: ValidatorsChanged,
    EQUIVOCATION_RECORDED: EquivocationRecorded,
    LEASE_CHANGED: LeaseChanged,
}
"""Which record an event kind carries."""
KIND_OF: Final[dict[type, Label]] = {payload: kind for kind, payload in EVENTS.items()}
"""Inverse of ``EVENTS``."""
