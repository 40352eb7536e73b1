from __future__ import annotations

from agent_world.consensus.early import (
    EARLY_BYTES_PER_VALIDATOR_MAX,
    EARLY_MESSAGES_PER_VALIDATOR_MAX,
    EarlyBuffer,
)
from agent_world.consensus.messages import EarlyMessage
from agent_world.wire.ids import PublicKey

A, B = PublicKey(b"a" * 32), PublicKey(b"b" * 32)


def early(key: PublicKey, number: int, height: int = 2, size: int = 10) -> EarlyMessage:
    return EarlyMessage(height=height, key=key, data=number.to_bytes(4, "big") + bytes(size))


def test_messages_wait_for_their_height() -> None:
    buffer = EarlyBuffer()
    for message in (early(A, 1), early(B, 2), early(A, 3, height=3)):
        assert buffer.add(message) == 0
    assert buffer.take(2) == [early(A, 1), early(B, 2)]
    assert buffer.take(2) == []
    assert buffer.take(3) == [early(A, 3, height=3)]


def test_what_was_jumped_over_is_gone() -> None:
    buffer = EarlyBuffer()
    buffer.add(early(A, 1))
    assert buffer.take(3) == []
    assert buffer.take(2) == []


def test_a_repeat_is_kept_once() -> None:
    buffer = EarlyBuffer()
    assert [buffer.add(early(A, 1)) for _ in range(2)] == [0, 0]
    assert buffer.take(2) == [early(A, 1)]


def test_the_oldest_gives_way_and_only_ones_own() -> None:
    buffer = EarlyBuffer()
    buffer.add(early(B, 0))
    gone = [buffer.add(early(A, number)) for number in range(EARLY_MESSAGES_PER_VALIDATOR_MAX + 3)]
    assert sum(gone) == 3
    kept = buffer.take(2)
    assert early(B, 0) in kept
    assert early(A, 2) not in kept
    assert early(A, 3) in kept


def test_large_messages_are_bounded_by_their_bytes() -> None:
    buffer = EarlyBuffer()
    size = EARLY_BYTES_PER_VALIDATOR_MAX // 2 - 10
    assert [buffer.add(early(A, number, size=size)) for number in range(3)] == [0, 0, 1]
    assert [message.data[3] for message in buffer.take(2)] == [1, 2]
