"""get_pending: what waits at a node, for neighbours whose pool is another."""

from __future__ import annotations

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.errors import DecodeError, ErrorCode, Refused, RemoteError
from agent_world.handlers.action import PendingHandler, open_pending, pool_digest
from agent_world.wire import record
from agent_world.wire.action import GetPendingRequest, GetPendingResponse
from agent_world.wire.ids import U32, Hash32, PeerId, WorldId
from agent_world.wire.limits import PENDING_IDS_MAX, RPC_INLINE_BYTES_MAX

WORLD = WorldId("w")


def ids(count: int) -> list[Hash32]:
    return [hash32(b"%d" % number) for number in range(count)]


def request(digest: Hash32, *, skip: int = 0, world: WorldId = WORLD) -> bytes:
    return record.to_bytes(GetPendingRequest(world_id=world, digest=digest, skip=U32(skip)))


async def ask(pending: list[Hash32], peer: PeerId, data: bytes) -> GetPendingResponse:
    return open_pending(await PendingHandler(WORLD, lambda: pending).serve(peer, data))


async def test_equal_pools_cost_one_small_answer(peer: PeerId) -> None:
    pending = ids(500)
    handler = PendingHandler(WORLD, lambda: pending)
    answer = await handler.serve(peer, request(pool_digest(reversed(pending))))
    assert open_pending(answer) == GetPendingResponse(pending=U32(500), action_ids=())
    assert len(answer) < 64


async def test_other_pools_are_named_the_newest_first(peer: PeerId) -> None:
    pending = ids(3)
    answer = await ask(pending, peer, request(pool_digest(pending[:2])))
    assert answer.action_ids == (pending[2], pending[1], pending[0])


async def test_more_than_one_answer_holds_are_had_by_skipping(peer: PeerId) -> None:
    pending = ids(2 * PENDING_IDS_MAX + 5)
    got: list[Hash32] = []
    for skip in range(0, len(pending), PENDING_IDS_MAX):
        answer = await ask(pending, peer, request(pool_digest([]), skip=skip))
        assert answer.pending == len(pending)
        assert len(record.to_bytes(answer)) <= RPC_INLINE_BYTES_MAX
        got += answer.action_ids
    assert got == pending[::-1]


async def test_a_request_of_another_world_is_refused(peer: PeerId) -> None:
    with pytest.raises(Refused) as caught:
        await ask([], peer, request(pool_digest([]), world=WorldId("other")))
    assert (caught.value.code, caught.value.rule) == (ErrorCode.BAD_REQUEST, "A15")


@pytest.mark.parametrize("named", [ids(PENDING_IDS_MAX + 1), ids(2) + ids(1)])
def test_an_answer_of_too_many_or_doubled_ids_is_broken(named: list[Hash32]) -> None:
    with pytest.raises(RemoteError) as caught:
        open_pending(record.to_bytes(GetPendingResponse(pending=U32(1), action_ids=tuple(named))))
    assert caught.value.rule == "A16"


def test_an_answer_that_is_none_is_broken() -> None:
    with pytest.raises(DecodeError):
        open_pending(b"\xff")


def test_the_digest_is_of_the_set() -> None:
    some = ids(10)
    assert pool_digest(some) == pool_digest(some[::-1])
    assert len({pool_digest(some[:count]) for count in range(10)}) == 10
