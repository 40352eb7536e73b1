"""The words of protocols/replica, and the largest request."""

from __future__ import annotations

import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.errors import DecodeError
from agent_world.wire import record
from agent_world.wire.cid import Codec
from agent_world.wire.ids import WorldId
from agent_world.wire.limits import REPLICA_CONTENTS_MAX, RPC_INLINE_BYTES_MAX
from agent_world.wire.replica import ReplicaAsk, ReplicaRequest


def test_a_request_about_as_much_as_may_be_is_a_frame() -> None:
    contents = tuple(cid_of(b"%d" % number, Codec.RAW) for number in range(REPLICA_CONTENTS_MAX))
    request = ReplicaRequest(world_id=WorldId("w" * 64), ask=ReplicaAsk.STATUS, contents=contents, source=None)
    data = record.to_bytes(request)
    assert len(data) <= RPC_INLINE_BYTES_MAX
    assert record.from_bytes(ReplicaRequest, data, size_max=RPC_INLINE_BYTES_MAX) == request


def test_an_unknown_ask_is_no_request() -> None:
    request = ReplicaRequest(world_id=WorldId("w1"), ask=ReplicaAsk.KEEP, contents=(), source=None)
    data = record.to_bytes(request).replace(b"dkeep", b"dburn")
    with pytest.raises(DecodeError):
        record.from_bytes(ReplicaRequest, data, size_max=RPC_INLINE_BYTES_MAX)
