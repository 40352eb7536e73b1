"""Pending actions and pools for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.config import MempoolConfig
from agent_world.crypto.hashing import hash32
from agent_world.errors import ErrorCode, Refused
from agent_world.sequencer.batch import CommittedAction, PendingAction
from agent_world.sequencer.mempool import Mempool
from agent_world.wire.ids import ActorId

NOW_MS = 1_000_000
ALICE, BOB, CAROL = ActorId("alice"), ActorId("bob"), ActorId("carol")


def act(actor: ActorId, nonce: int, *, at_ms: int = NOW_MS, size: int = 100, salt: str = "") -> PendingAction:
    data = f"{actor}/{nonce}/{at_ms}/{size}/{salt}".encode()
    return PendingAction(
        action_id=hash32(data), actor_id=actor, nonce=nonce, timestamp_ms=at_ms, size_bytes=size, data=data,
        payload_hash=hash32(data + b"payload"),
    )  # fmt: skip


def done(action: PendingAction) -> CommittedAction:
    return CommittedAction(action_id=action.action_id, actor_id=action.actor_id, nonce=action.nonce)


def first_nonce(_actor: ActorId) -> int:
    return 1


def pool(**settings_: object) -> Mempool:
    return Mempool(MempoolConfig(**settings_))  # type: ignore[arg-type]


def refusal(call: Callable[[], object]) -> tuple[str, ErrorCode]:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.rule, caught.value.code
