"""protocols/action: bundles of signed actions by gossip, judged item by item, and what is pending by request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from agent_world.crypto.hashing import hash32
from agent_world.errors import DecodeError, ErrorCode, Refused, RemoteError
from agent_world.handlers.submit import Admission
from agent_world.net.interface import Verdict
from agent_world.wire import record
from agent_world.wire.action import ActionBundle, GetPendingRequest, GetPendingResponse
from agent_world.wire.ids import U32, Hash32, PeerId, WorldId
from agent_world.wire.limits import (
    GOSSIP_ACTIONS_MAX,
    GOSSIP_BYTES_MAX,
    HEADER_BYTES_MAX,
    PENDING_IDS_MAX,
    RPC_INLINE_BYTES_MAX,
)

BLAMELESS_RULES = frozenset({"A7", "A9", "A10", "A11", "A12", "A13", "A14"})
"""Rules that an honest publisher may break: its state may be older or newer than ours, its pool fuller."""


class ActionHandler:
    """Gossip on ``aw.<world>.action``."""

    def __init__(self, admit: Admission) -> None:
        self._admit = admit

    def validate(self, publisher: PeerId, data: bytes) -> Verdict:
        """ACCEPT if any action is new here; REJECT if any is wrong whatever the state; else IGNORE."""
        try:
            bundle = record.from_bytes(ActionBundle, data, size_max=GOSSIP_BYTES_MAX)
        except DecodeError:
            return Verdict.REJECT
        if not 1 <= len(bundle.actions) <= GOSSIP_ACTIONS_MAX:
            return Verdict.REJECT
        verdict = Verdict.IGNORE
        for action in bundle.actions:
            try:
                is_new = self._admit(action, source=publisher).is_new
            except Refused as error:
                if error.rule not in BLAMELESS_RULES:
                    verdict = Verdict.REJECT
            else:
                if is_new and verdict is Verdict.IGNORE:
                    verdict = Verdict.ACCEPT
        return verdict


def pool_digest(action_ids: Iterable[Hash32]) -> Hash32:
    """Digest of a set of pending actions. A hash of all, since a sum of ids could be steered by who makes actions."""
    return hash32(b"".join(sorted(action_ids)))


class PendingHandler:
    """Serves get_pending; ``pending`` gives the ids of this node's pool, first arrived first."""

    def __init__(self, world_id: WorldId, pending: Callable[[], Sequence[Hash32]]) -> None:
        self._world_id = world_id
        self._pending = pending

    async def serve(self, _peer: PeerId, data: bytes) -> bytes:
        """get_pending."""
        request = record.from_bytes(GetPendingRequest, data, size_max=HEADER_BYTES_MAX)
        # [REJECT] A15: the request is for this world.
        if request.world_id != self._world_id:
            raise Refused(ErrorCode.BAD_REQUEST, f"no world {request.world_id!r} here", rule="A15")
        pending = self._pending()
        named: tuple[Hash32, ...] = ()
        if pool_digest(pending) != request.digest:
            named = tuple(islice(reversed(pending), request.skip, request.skip + PENDING_IDS_MAX))
        return record.to_bytes(GetPendingResponse(pending=U32(len(pending)), action_ids=named))


def open_pending(data: bytes) -> GetPendingResponse:
    """The answer to a get_pending; raises RemoteError."""
    answer = record.from_bytes(GetPendingResponse, data, size_max=RPC_INLINE_BYTES_MAX)
    # [REJECT] A16: few action ids, each once.
    if len(answer.action_ids) > PENDING_IDS_MAX or len(set(answer.action_ids)) < len(answer.action_ids):
        raise RemoteError("A16", "too many action ids, or one of them twice")
    return answer
