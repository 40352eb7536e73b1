from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import SPEED_CM_PER_S, SmallWorld

from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.wire.action import MoveAgent
from agent_world.wire.ids import I64, TimeMs
from agent_world.wire.limits import I64_MAX
from agent_world.world.records import POSITIONS, PositionRecord
from agent_world.world.rules.agent_move import is_within_speed


def move(x: int, y: int = 0, z: int = 0) -> MoveAgent:
    return MoveAgent(x_cm=I64(x), y_cm=I64(y), z_cm=I64(z))


def position(world: SmallWorld, who: KeyPair) -> PositionRecord | None:
    return world.state.get(POSITIONS, actor_id_of(who.public_key))


def test_the_first_move_may_go_anywhere(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice)
    assert position(world, alice) is None
    assert world.do(alice, move(-(2**63), I64_MAX, 5)) == "ok"
    assert position(world, alice) == PositionRecord(
        x_cm=I64(-(2**63)), y_cm=I64(I64_MAX), z_cm=I64(5), moved_at_ms=TimeMs(world.head.timestamp_ms)
    )


@pytest.mark.parametrize(("to", "after_ms", "code"), [
    (move(SPEED_CM_PER_S), 1_000, "ok"),
    (move(SPEED_CM_PER_S + 1), 1_000, "too_fast"),
    (move(300, 400), 1_000, "ok"),
    (move(300, 401), 1_000, "too_fast"),
    (move(300, -300, 264), 1_000, "ok"),
    (move(300, -300, 265), 1_000, "too_fast"),
    (move(-1), 1, "too_fast"),
    (move(-1), 2, "ok"),
    (move(0), 1, "ok"),
    (move(I64_MAX, -(2**63)), 1_000, "too_fast"),
])  # fmt: skip
def test_later_moves_are_bounded(world: SmallWorld, alice: KeyPair, to: MoveAgent, after_ms: int, code: str) -> None:
    world.join(alice)
    world.do(alice, move(0))
    before = position(world, alice)
    assert world.do(alice, to, after_ms=after_ms) == code
    assert (position(world, alice) == before) == (code != "ok")


def test_time_counts_from_the_last_move_that_was_made(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice)
    world.do(alice, move(0))
    assert world.do(alice, move(600)) == "too_fast"
    assert world.do(alice, move(1_000)) == "ok"
    assert world.do(alice, move(2_000)) == "too_fast"


def test_a_second_move_in_one_block_has_no_time_left(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice)
    world.do(alice, move(0))
    sealed = world.commit(world.sign(alice, move(10)), world.sign(alice, move(11)), world.sign(alice, move(10)))
    assert [receipt.code for receipt in sealed.execution.receipts] == ["ok", "too_fast", "ok"]


COORDINATE = st.integers(-(2**63), I64_MAX)
POINT = st.tuples(COORDINATE, COORDINATE, COORDINATE)


@given(start=POINT, end=POINT, speed=st.integers(0, 2**64 - 1), elapsed=st.integers(0, 2**63 - 1))
@settings(deadline=None, max_examples=100)
def test_the_bound_is_exact(start: tuple[int, int, int], end: tuple[int, int, int], speed: int, elapsed: int) -> None:
    at = PositionRecord(x_cm=start[0], y_cm=start[1], z_cm=start[2], moved_at_ms=TimeMs(0))
    squared = sum((a - b) ** 2 for a, b in zip(start, end, strict=True))
    # distance x 1000 <= speed x time, the distance rounded up to whole units of speed x time.
    reach = speed * elapsed
    assert is_within_speed(at, move(*end), speed, elapsed) == (
        math.isqrt(max(squared * 10**6 - 1, 0)) < reach or squared == 0
    )
