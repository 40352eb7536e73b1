"""Messages of protocols/submit: hand an action to a node, and ask what became of it."""

from __future__ import annotations

import attrs

from agent_world.wire.block import Receipt
from agent_world.wire.ids import U64, ActorId, Hash32, WorldId


@attrs.frozen(slots=True, kw_only=True)
class SubmitActionRequest:
    """submit_action."""

    action: bytes
    """Encoded Signed with an ActionEnvelope as body."""


@attrs.frozen(slots=True, kw_only=True)
class SubmitActionResponse:
    """The action is valid and pending here (or already committed)."""

    action_id: Hash32


@attrs.frozen(slots=True, kw_only=True)
class GetReceiptRequest:
    """get_receipt."""

    world_id: WorldId
    action_id: Hash32


@attrs.frozen(slots=True, kw_only=True)
class GetReceiptResponse:
    """The receipt, and the height whose certificate commits it."""

    height: U64
    receipt: Receipt


@attrs.frozen(slots=True, kw_only=True)
class GetActorRequest:
    """get_actor: what a client needs to sign its next action."""

    world_id: WorldId
    actor_id: ActorId


@attrs.frozen(slots=True, kw_only=True)
class GetActorResponse:
    """``next_nonce`` counts committed actions only; ``pending`` are those waiting at this node."""

    next_nonce: U64
    pending: U64
