"""Messages of protocols/action: what agents sign, and the bundles in which it is gossiped."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.wire.cid import Cid
from agent_world.wire.evidence import EquivocationEvidence
from agent_world.wire.ids import I64, U16, U32, U64, ActorId, Hash32, Label, Name, PublicKey, TimeMs, WorldId
from agent_world.wire.lease import AcquireLease, ReleaseLease, RenewLease
from agent_world.wire.membership import MembershipApproval, MembershipChange
from agent_world.wire.record import V1


@attrs.frozen(slots=True, kw_only=True)
class ActionEnvelope:
    """Body of a signed action.

    The action's id is BLAKE3 of the encoded ``Signed`` around it: nobody can take another's id, and the id is
    the content hash by which the action is stored and fetched.
    """

    v: U16 = U16(V1)
    world_id: WorldId
    actor_id: ActorId
    """Who acts; the signing key must be this actor's key in the state."""
    action_kind: Label
    payload_cbor: bytes
    """DAG-CBOR of the record that belongs to ``action_kind``."""
    payload_hash: Hash32
    """BLAKE3 of ``payload_cbor``."""
    nonce: U64
    """1 for an actor's first action, then always the next."""
    timestamp_ms: TimeMs
    """The client's clock; orders actions across actors after clamping to the arrival time."""


@attrs.frozen(slots=True, kw_only=True)
class ActionBundle:
    """One gossip message on ``aw.<world>.action``: encoded ``Signed`` actions."""

    v: U16 = U16(V1)
    actions: tuple[bytes, ...]


@attrs.frozen(slots=True, kw_only=True)
class GetPendingRequest:
    """get_pending: which actions wait at the asked node, if they are others than the asker's."""

    world_id: WorldId
    digest: Hash32
    """BLAKE3 of the ids of all actions pending at the asker, ascending, one after the other."""
    skip: U32
    """How many of the newest to leave out; 0 at first."""


@attrs.frozen(slots=True, kw_only=True)
class GetPendingResponse:
    """``action_ids`` is empty if both pools hold the same actions."""

    pending: U32
    """How many actions wait at the asked node."""
    action_ids: tuple[Hash32, ...]
    """At most PENDING_IDS_MAX, the newest arrival first."""


REGISTER: Final = Label("agent.register")
MOVE: Final = Label("agent.move")
GRANT: Final = Label("resource.grant")
TRANSFER: Final = Label("resource.transfer")
CREATE_OBJECT: Final = Label("object.create")
MEMBERSHIP_CHANGE: Final = Label("membership.change")
MEMBERSHIP_APPROVE: Final = Label("membership.approve")
REPORT_EVIDENCE: Final = Label("evidence.report")
ACQUIRE_LEASE: Final = Label("lease.acquire")
RENEW_LEASE: Final = Label("lease.renew")
RELEASE_LEASE: Final = Label("lease.release")


@attrs.frozen(slots=True, kw_only=True)
class RegisterAgent:
    """agent.register: the sponsor (the signer) brings a new key into the world (D3)."""

    name: Name
    public_key: PublicKey
    registration_quota: U64
    """How many agents the new one may sponsor; taken from the sponsor's own quota."""


@attrs.frozen(slots=True, kw_only=True)
class MoveAgent:
    """agent.move: go to a position, in cm; the distance is bounded by speed x time since the last move."""

    x_cm: I64
    y_cm: I64
    z_cm: I64


@attrs.frozen(slots=True, kw_only=True)
class GrantResource:
    """resource.grant: the genesis authority creates units of a resource for an agent."""

    resource: Name
    to_actor_id: ActorId
    amount: U64


@attrs.frozen(slots=True, kw_only=True)
class TransferResource:
    """resource.transfer: the signer pays units of a resource to another agent."""

    resource: Name
    to_actor_id: ActorId
    amount: U64


@attrs.frozen(slots=True, kw_only=True)
class CreateObject:
    """object.create: an object whose data lie outside the state, by content hash."""

    object_id: Name
    """Unique in the world."""
    content: Cid
    size_bytes: U64
    """Stated size of the content; charged to the creator's storage quota."""


PAYLOADS: Final[dict[Label, type]] = {
    REGISTER: RegisterAgent,
    MOVE: MoveAgent,
    GRANT: GrantResource,
    TRANSFER: TransferResource,
    CREATE_OBJECT: CreateObject,
    MEMBERSHIP_CHANGE: MembershipChange,
    MEMBERSHIP_APPROVE: MembershipApproval,
    REPORT_EVIDENCE: EquivocationEvidence,
    ACQUIRE_LEASE: AcquireLease,
    RENEW_LEASE: RenewLease,
    RELEASE_LEASE: ReleaseLease,
}
"""Which record an action kind carries."""
