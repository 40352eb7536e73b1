from __future__ import annotations

import pytest

from agent_world.errors import DecodeError, Refused
from agent_world.handlers.membership import MembershipHandler, open_boundaries
from agent_world.wire import record
from agent_world.wire.ids import U64, PeerId, WorldId
from agent_world.wire.limits import BOUNDARIES_MAX, MIB
from agent_world.wire.membership import EpochBoundary, GetBoundariesRequest

WORLD = WorldId("w")


def boundary(number: int, size: int = 10) -> EpochBoundary:
    return EpochBoundary(block=b"block %d" % number, certificate=bytes(size), validators=b"set")


class Boundaries:
    """Boundaries at the heights 10, 20, 30 ...; remembers how many were asked for."""

    def __init__(self, count: int, size: int = 10) -> None:
        self.all = [(10 * number, boundary(number, size)) for number in range(1, count + 1)]
        self.asked = 0

    def __call__(self, from_height: int, count_max: int) -> list[EpochBoundary]:
        self.asked = count_max
        return [found for height, found in self.all if height >= from_height][:count_max]


def request(from_height: int, world: WorldId = WORLD) -> bytes:
    return record.to_bytes(GetBoundariesRequest(world_id=world, from_height=U64(from_height)))


async def test_the_boundaries_from_a_height_on(peer: PeerId) -> None:
    handler = MembershipHandler(WORLD, Boundaries(3))
    assert open_boundaries(await handler.serve_boundaries(peer, request(11))) == (boundary(2), boundary(3))
    assert open_boundaries(await handler.serve_boundaries(peer, request(31))) == ()


async def test_an_answer_is_bounded_in_number_and_bytes(peer: PeerId) -> None:
    many = Boundaries(3 * BOUNDARIES_MAX)
    answer = open_boundaries(await MembershipHandler(WORLD, many).serve_boundaries(peer, request(0)))
    assert len(answer) == many.asked == BOUNDARIES_MAX
    large = MembershipHandler(WORLD, Boundaries(5, MIB // 2))
    assert len(open_boundaries(await large.serve_boundaries(peer, request(0)))) == 1
    huge = MembershipHandler(WORLD, Boundaries(5, 2 * MIB))
    assert len(open_boundaries(await huge.serve_boundaries(peer, request(0)))) == 1


async def test_g1_another_world(peer: PeerId) -> None:
    with pytest.raises(Refused) as caught:
        await MembershipHandler(WORLD, Boundaries(1)).serve_boundaries(peer, request(0, WorldId("w2")))
    assert caught.value.rule == "G1"


def test_an_answer_that_is_none() -> None:
    with pytest.raises(DecodeError):
        open_boundaries(b"\xa0")
