from __future__ import annotations

from typing import Any

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.errors import DecodeError, ErrorCode, Refused
from agent_world.handlers.submit import Admitted, SubmitHandler
from agent_world.wire import record
from agent_world.wire.ids import ActorId, Hash32, PeerId, WorldId
from agent_world.wire.submit import (
    GetActorRequest,
    GetActorResponse,
    GetReceiptRequest,
    GetReceiptResponse,
    SubmitActionRequest,
    SubmitActionResponse,
)

ACTOR, STRANGER = ActorId("a" * 32), ActorId("b" * 32)
W, ANOTHER = WorldId("w"), WorldId("another")


def admit(data: bytes, *, source: PeerId | None) -> Admitted:
    if data == b"bad":
        raise Refused(ErrorCode.UNAUTHORIZED, "A6: forged", rule="A6")
    return Admitted(hash32(data), is_new=source is not None)


@pytest.fixture
def handler(chain: Any) -> SubmitHandler:
    return SubmitHandler(chain, admit, lambda _actor: 2)


def refused(caught: Any) -> tuple[str, ErrorCode]:
    return caught.value.rule, caught.value.code


async def test_s1_an_action_that_passes(handler: SubmitHandler, peer: PeerId) -> None:
    answer = await handler.serve_submit(peer, record.to_bytes(SubmitActionRequest(action=b"good")))
    assert record.from_bytes(SubmitActionResponse, answer, size_max=100).action_id == hash32(b"good")


async def test_s1_an_action_that_does_not_keeps_its_rule(handler: SubmitHandler, peer: PeerId) -> None:
    with pytest.raises(Refused) as caught:
        await handler.serve_submit(peer, record.to_bytes(SubmitActionRequest(action=b"bad")))
    assert refused(caught) == ("A6", ErrorCode.UNAUTHORIZED)


async def test_s2_receipts(handler: SubmitHandler, peer: PeerId) -> None:
    request = GetReceiptRequest(world_id=W, action_id=hash32(b"an action"))
    answer = record.from_bytes(
        GetReceiptResponse, await handler.serve_receipt(peer, record.to_bytes(request)), size_max=1000
    )
    assert (answer.height, answer.receipt.code) == (2, "ok")
    with pytest.raises(Refused) as caught:
        await handler.serve_receipt(peer, record.to_bytes(GetReceiptRequest(world_id=W, action_id=Hash32(bytes(32)))))
    assert refused(caught) == ("S2", ErrorCode.NOT_FOUND)


async def test_s3_another_world(handler: SubmitHandler, peer: PeerId) -> None:
    with pytest.raises(Refused) as caught:
        await handler.serve_receipt(
            peer, record.to_bytes(GetReceiptRequest(world_id=ANOTHER, action_id=Hash32(bytes(32))))
        )
    assert refused(caught) == ("S3", ErrorCode.BAD_REQUEST)
    with pytest.raises(Refused) as caught:
        await handler.serve_actor(peer, record.to_bytes(GetActorRequest(world_id=ANOTHER, actor_id=ACTOR)))
    assert refused(caught) == ("S3", ErrorCode.BAD_REQUEST)


async def test_s4_actors(handler: SubmitHandler, peer: PeerId) -> None:
    answer = await handler.serve_actor(peer, record.to_bytes(GetActorRequest(world_id=W, actor_id=ACTOR)))
    assert record.from_bytes(GetActorResponse, answer, size_max=100) == GetActorResponse(next_nonce=5, pending=2)
    with pytest.raises(Refused) as caught:
        await handler.serve_actor(peer, record.to_bytes(GetActorRequest(world_id=W, actor_id=STRANGER)))
    assert refused(caught) == ("S4", ErrorCode.NOT_FOUND)


async def test_garbage_is_the_askers_fault(handler: SubmitHandler, peer: PeerId) -> None:
    for serve in (handler.serve_submit, handler.serve_receipt, handler.serve_actor):
        with pytest.raises(DecodeError):
            await serve(peer, b"\xff")
