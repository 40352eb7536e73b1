"""Pending actions and the batches cut from them."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from agent_world.crypto.hashing import hash32
from agent_world.wire import cbor
from agent_world.wire.ids import ActorId, Hash32


@attrs.frozen(slots=True, kw_only=True)
class PendingAction:
    """An admitted action that waits to be ordered."""

    action_id: Hash32
    actor_id: ActorId
    nonce: int
    timestamp_ms: int
    """The client's clock, as signed."""
    size_bytes: int
    """Length of ``data``: the whole encoded action counts."""
    data: bytes
    """Encoded Signed."""
    payload_hash: Hash32


@attrs.frozen(slots=True, kw_only=True)
class CommittedAction:
    """Which action used up a nonce, wherever it came from."""

    action_id: Hash32
    actor_id: ActorId
    nonce: int


@attrs.frozen(slots=True, kw_only=True)
class Batch:
    """Actions for one block, in the order in which they are to be executed; may be empty."""

    batch_id: Hash32
    actions: tuple[PendingAction, ...]
    size_bytes: int
    """Sum of the actions' sizes."""

    @classmethod
    def of(cls, actions: Iterable[PendingAction]) -> Batch:
        """The batch of these actions in this order."""
        ordered = tuple(actions)
        return cls(batch_id=batch_id(ordered), actions=ordered, size_bytes=sum(action.size_bytes for action in ordered))


def batch_id(actions: Iterable[PendingAction]) -> Hash32:
    """BLAKE3 of the DAG-CBOR list of [action_id, payload_hash] in order: it names content and order (K-6.8)."""
    return hash32(cbor.encode([[action.action_id, action.payload_hash] for action in actions]))
