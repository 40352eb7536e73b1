from __future__ import annotations

from agent_world.crypto.hashing import hash32
from agent_world.sequencer.batch import Batch, PendingAction, batch_id
from agent_world.wire import cbor
from agent_world.wire.ids import ActorId, Hash32


def _action(number: int, *, size_bytes: int = 10) -> PendingAction:
    data = number.to_bytes(4, "big")
    return PendingAction(
        action_id=hash32(data), actor_id=ActorId("a"), nonce=number, timestamp_ms=0, size_bytes=size_bytes, data=data,
        payload_hash=hash32(b"payload" + data),
    )  # fmt: skip


def test_batch_id_is_the_hash_of_the_ordered_pairs() -> None:
    first, second = _action(1), _action(2)
    pairs = [[first.action_id, first.payload_hash], [second.action_id, second.payload_hash]]
    assert batch_id([first, second]) == hash32(cbor.encode(pairs))
    assert batch_id([]) == hash32(b"\x80")


def test_batch_id_names_order_and_content() -> None:  # K-6.8
    first, second = _action(1), _action(2)
    other_payload = PendingAction(
        action_id=second.action_id, actor_id=second.actor_id, nonce=second.nonce, timestamp_ms=0, size_bytes=10,
        data=second.data, payload_hash=Hash32(bytes(32)),
    )  # fmt: skip
    ids = {batch_id([first, second]), batch_id([second, first]), batch_id([first, other_payload]), batch_id([first])}
    assert len(ids) == 4


def test_a_batch_sums_its_sizes() -> None:
    batch = Batch.of([_action(1, size_bytes=7), _action(2, size_bytes=8)])
    assert (batch.size_bytes, len(batch.actions)) == (15, 2)
    assert batch.batch_id == batch_id(batch.actions)
