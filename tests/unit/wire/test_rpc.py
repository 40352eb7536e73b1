"""wire/rpc.py: frames, methods, topics and DHT keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.errors import ErrorCode, Refused
from agent_world.wire import limits, record, rpc
from agent_world.wire.ids import U64, WorldId
from agent_world.wire.rpc import ErrorResponse, RequestFrame, ResponseFrame


@pytest.mark.parametrize("kind", [ErrorResponse, RequestFrame, ResponseFrame])
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


W1 = WorldId("w1")


@pytest.mark.parametrize("kind", ["action", "block", "head", "event", "membership.revoke", "consensus.proposal"])
def test_t_1_1_topics(kind: str) -> None:
    assert rpc.topic(W1, kind) == f"aw.w1.{kind}"


def test_t_1_1_dht_keys() -> None:
    assert rpc.dht_head_key(W1) == "/aw/world/w1/head"
    assert rpc.dht_providers_key(W1, "00ff") == "/aw/world/w1/providers/00ff"
    assert rpc.dht_membership_key(W1) == "/aw/world/w1/membership"


def test_t_1_1_methods() -> None:
    assert rpc.method("ping") == "/aw/rr/1.0.0/ping"
    assert rpc.GET_WORLD_HEAD == "/aw/rr/1.0.0/get_world_head"
    assert rpc.GET_BLOCK == "/aw/rr/1.0.0/get_block"
    assert rpc.GET_BLOCKS == "/aw/rr/1.0.0/get_blocks"
    assert rpc.FETCH_BLOB == "/aw/rr/1.0.0/fetch_blob"
    assert rpc.FETCH_BLOBS == "/aw/rr/1.0.0/fetch_blobs"
    assert rpc.SUBMIT_ACTION == "/aw/rr/1.0.0/submit_action"
    assert rpc.GET_RECEIPT == "/aw/rr/1.0.0/get_receipt"
    assert rpc.GET_ACTOR == "/aw/rr/1.0.0/get_actor"
    assert rpc.HELLO == "/aw/rr/1.0.0/hello"


@pytest.mark.parametrize("code", list(ErrorCode))
@pytest.mark.parametrize("retryable", [True, False])
def test_t_1_3_an_error_arrives_as_it_was_sent(code: ErrorCode, retryable: bool) -> None:
    """``retryable`` is trusted as sent, also where the table says otherwise."""
    sent = Refused(code, "busy", rule="A12", retryable=retryable)
    frame = ResponseFrame(id=U64(1), payload=None, error=ErrorResponse.of(sent), elsewhere=False)
    arrived = record.from_bytes(ResponseFrame, record.to_bytes(frame), size_max=limits.RPC_FRAME_BYTES_MAX)
    assert arrived.error is not None
    got = arrived.error.to_refused()
    assert (got.code, got.message, got.rule, got.retryable) == (code, "busy", "A12", retryable)


def test_t_1_3_retryable_follows_the_table_when_nothing_is_said() -> None:
    assert ErrorResponse.of(Refused(ErrorCode.BUSY, "busy")).retryable
    assert not ErrorResponse.of(Refused(ErrorCode.NOT_FOUND, "none")).retryable


def test_a_long_message_is_cut() -> None:
    error = ErrorResponse.of(Refused(ErrorCode.BUSY, "\U0001f30d" * 10_000))
    assert error.message == "\U0001f30d" * 500
    assert len(record.to_bytes(error)) < 2 * limits.KIB


def test_the_largest_inline_answer_fits_into_a_frame() -> None:
    frame = ResponseFrame(id=U64(2**64 - 1), payload=bytes(limits.RPC_INLINE_BYTES_MAX), error=None, elsewhere=False)
    assert len(record.to_bytes(frame)) < limits.RPC_FRAME_BYTES_MAX
