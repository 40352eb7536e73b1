"""protocols/submit: actions handed to this node, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from agent_world.errors import ErrorCode, Refused
from agent_world.handlers.views import ChainView
from agent_world.wire import record
from agent_world.wire.ids import U64, ActorId, Hash32, PeerId, WorldId
from agent_world.wire.limits import HEADER_BYTES_MAX, RPC_INLINE_BYTES_MAX
from agent_world.wire.submit import (
    GetActorRequest,
    GetActorResponse,
    GetReceiptRequest,
    GetReceiptResponse,
    SubmitActionRequest,
    SubmitActionResponse,
)


@attrs.frozen(slots=True)
class Admitted:
    """An action that is now pending here; ``is_new`` is False for one that already was, or is committed (A13)."""

    action_id: Hash32
    is_new: bool


class Admission(Protocol):
    """Puts an action through rules A1..A14 into the pool; raises Refused with the rule."""

    def __call__(self, data: bytes, *, source: PeerId | None) -> Admitted:
        """``source`` is the peer it came from; None if it was handed in at this node."""
        ...


class SubmitHandler:
    """Serves submit_action, get_receipt and get_actor."""

    def __init__(self, chain: ChainView, admit: Admission, pending_of: Callable[[ActorId], int]) -> None:
        self._chain = chain
        self._admit = admit
        self._pending_of = pending_of

    async def serve_submit(self, peer: PeerId, data: bytes) -> bytes:
        """submit_action."""
        request = record.from_bytes(SubmitActionRequest, data, size_max=RPC_INLINE_BYTES_MAX * 2)
        # [REJECT] S1: the action passes the rules of protocols/action.
        return record.to_bytes(SubmitActionResponse(action_id=self._admit(request.action, source=peer).action_id))

    async def serve_receipt(self, _peer: PeerId, data: bytes) -> bytes:
        """get_receipt."""
        request = record.from_bytes(GetReceiptRequest, data, size_max=HEADER_BYTES_MAX)
        self._check_world(request.world_id)
        found = self._chain.receipt(request.action_id)
        # [IGNORE] S2: the action is committed here.
        if found is None:
            raise Refused(ErrorCode.NOT_FOUND, f"action {request.action_id.hex()} is not committed here", rule="S2")
        return record.to_bytes(GetReceiptResponse(height=found[0], receipt=found[1]))

    async def serve_actor(self, _peer: PeerId, data: bytes) -> bytes:
        """get_actor."""
        request = record.from_bytes(GetActorRequest, data, size_max=HEADER_BYTES_MAX)
        self._check_world(request.world_id)
        next_nonce = self._chain.next_nonce(request.actor_id)
        # [REJECT] S4: the actor is registered.
        if next_nonce is None:
            raise Refused(ErrorCode.NOT_FOUND, f"no actor {request.actor_id} in this world", rule="S4")
        pending = U64(self._pending_of(request.actor_id))
        return record.to_bytes(GetActorResponse(next_nonce=U64(next_nonce), pending=pending))

    def _check_world(self, world_id: WorldId) -> None:
        # [REJECT] S3: the request is for this world.
        if world_id != self._chain.world_id:
            raise Refused(ErrorCode.BAD_REQUEST, f"no world {world_id!r} here", rule="S3")
