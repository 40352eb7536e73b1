from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from agent_world.distfs.reorder import ReorderBuffer
from agent_world.distfs.replication import Gap, OpenedRecord, validate_and_advance
from agent_world.testing.record_log import EMPTY, A, B, guard, written


def log(count: int) -> list[OpenedRecord]:
    """Half of it by A under term 1, then by B under term 2."""
    records, now = [], EMPTY
    for number in range(count):
        opened = written(now, *((A, 1) if number < count // 2 else (B, 2)))
        now = validate_and_advance(now, opened.record)
        records.append(opened)
    return records


@given(st.integers(1, 20), st.randoms(use_true_random=False))
def test_any_order_becomes_the_right_one(count: int, random: Random) -> None:  # K-8.5, T-9.9
    records = log(count)
    shuffled = [*records, *random.sample(records, len(records) // 2)]  # some come twice
    random.shuffle(shuffled)
    buffer, now, applied = ReorderBuffer(100), EMPTY, []
    for opened in shuffled:
        buffer.put(opened)
        while (found := buffer.next(now)) is not None:
            now = validate_and_advance(now, found.record)
            buffer.drop(found.place)
            applied.append(found.place)
    assert applied == [opened.place for opened in records]
    assert (len(buffer), buffer.gap(now)) == (0, None)


def test_what_is_missing_is_named() -> None:
    records = log(8)
    buffer = ReorderBuffer(100)
    assert buffer.gap(EMPTY) is None
    buffer.put(records[2])
    assert buffer.gap(EMPTY) == Gap((0, 0), (1, 2))
    assert buffer.gap(guard(A, 1, 2)) is None  # it is the next one
    buffer.put(records[4])
    assert buffer.gap(guard(A, 1, 3)) == Gap((1, 3), (1, 4))


def test_when_full_the_one_furthest_ahead_goes() -> None:
    records = log(10)
    buffer = ReorderBuffer(3)
    assert [buffer.put(opened) for opened in (records[8], records[5], records[3])] == [True] * 3
    assert buffer.put(records[1])
    assert (len(buffer), buffer.dropped) == (3, 1)
    assert not buffer.put(records[9])
    assert (len(buffer), buffer.dropped) == (3, 2)
    found = buffer.next(guard(A, 1, 1))
    assert found is not None
    assert found.place == (1, 2)


def test_what_can_never_be_accepted_goes() -> None:
    records = log(8)
    buffer = ReorderBuffer(10)
    for opened in records[:4]:
        buffer.put(opened)
    assert buffer.next(guard(B, 2, 1)) is None
    assert len(buffer) == 0
