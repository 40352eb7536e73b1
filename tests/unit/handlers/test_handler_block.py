from __future__ import annotations

from typing import Any

import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.errors import DecodeError, ErrorCode, Refused
from agent_world.handlers.block import ANNOUNCE_WINDOW_BLOCKS, BlockHandler
from agent_world.net.interface import Verdict
from agent_world.wire import record
from agent_world.wire.block import (
    BlockAnnounce,
    BlockBundle,
    GetBlockRequest,
    GetBlocksRequest,
    GetBlocksResponse,
    WorldBlock,
)
from agent_world.wire.ids import U64, Hash32, PeerId, TimeMs, WorldId
from agent_world.wire.limits import MIB, RANGE_BLOCKS_MAX, RANGE_BYTES_MAX, RPC_BODY_BYTES_MAX


@pytest.fixture
def hints() -> list[int]:
    return []


@pytest.fixture
def handler(chain: Any, hints: list[int]) -> BlockHandler:
    return BlockHandler(chain, lambda _peer, height: hints.append(height))


def announce(height: int, world: str = "w") -> bytes:
    nothing = Hash32(bytes(32))
    return record.to_bytes(
        BlockAnnounce(
            world_id=WorldId(world), height=U64(height), block_hash=nothing, prev_block_hash=nothing,
            event_root=nothing, state_root=cid_of(b""), timestamp_ms=TimeMs(1),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "data", "verdict"),
    [
        ("good", announce(4), Verdict.ACCEPT),
        ("good, last of the window", announce(3 + ANNOUNCE_WINDOW_BLOCKS), Verdict.ACCEPT),
        ("B1", announce(4, "another"), Verdict.REJECT),
        ("B2", announce(3), Verdict.IGNORE),
        ("B3", announce(4 + ANNOUNCE_WINDOW_BLOCKS), Verdict.IGNORE),
        ("B3, far", announce(2**64 - 1), Verdict.IGNORE),
        ("garbage", b"\xff", Verdict.REJECT),
        ("empty", b"", Verdict.REJECT),
    ],
)
def test_announcements(
    handler: BlockHandler, hints: list[int], peer: PeerId, rule: str, data: bytes, verdict: Verdict
) -> None:
    assert handler.validate(peer, data) is verdict
    assert bool(hints) is (verdict is Verdict.ACCEPT)


def ask(from_height: int, to_height: int, world: str = "w") -> bytes:
    return record.to_bytes(
        GetBlocksRequest(world_id=WorldId(world), from_height=U64(from_height), to_height=U64(to_height))
    )


async def heights(handler: BlockHandler, peer: PeerId, request: bytes) -> list[int]:
    answer = record.from_bytes(
        GetBlocksResponse, await handler.serve_blocks(peer, request), size_max=RPC_BODY_BYTES_MAX
    )
    return [record.from_bytes(WorldBlock, bundle.block, size_max=MIB).height for bundle in answer.bundles]


async def test_one_block(handler: BlockHandler, peer: PeerId, chain: Any) -> None:
    request = GetBlockRequest(world_id=WorldId("w"), height=U64(2))
    answer = await handler.serve_block(peer, record.to_bytes(request))
    assert record.from_bytes(BlockBundle, answer, size_max=MIB) == chain.bundle(2)


async def test_a_range_ends_at_the_committed_height(handler: BlockHandler, peer: PeerId) -> None:
    assert await heights(handler, peer, ask(2, 2)) == [2]
    assert await heights(handler, peer, ask(1, 2**64 - 1)) == [1, 2, 3]


async def test_a_range_is_bounded_in_number(handler: BlockHandler, peer: PeerId, chain: Any) -> None:
    chain.height = 500
    assert await heights(handler, peer, ask(10, 500)) == list(range(10, 10 + RANGE_BLOCKS_MAX))


async def test_a_range_is_bounded_in_bytes_but_never_empty(handler: BlockHandler, peer: PeerId, chain: Any) -> None:
    chain.body_bytes = RANGE_BYTES_MAX // 2 + 1
    assert await heights(handler, peer, ask(1, 3)) == [1]
    chain.body_bytes = RANGE_BYTES_MAX + 1
    assert await heights(handler, peer, ask(2, 3)) == [2]


@pytest.mark.parametrize(
    ("rule", "code", "request_bytes"),
    [
        ("B4", ErrorCode.BAD_REQUEST, ask(1, 1, "another")),
        ("B5", ErrorCode.NOT_FOUND, ask(4, 9)),
        ("B6", ErrorCode.BAD_REQUEST, ask(0, 3)),
        ("B6", ErrorCode.BAD_REQUEST, ask(3, 2)),
    ],
)
async def test_range_rules(
    handler: BlockHandler, peer: PeerId, rule: str, code: ErrorCode, request_bytes: bytes
) -> None:
    with pytest.raises(Refused) as caught:
        await handler.serve_blocks(peer, request_bytes)
    assert (caught.value.rule, caught.value.code) == (rule, code)


@pytest.mark.parametrize(("rule", "world", "height"), [("B4", "another", 1), ("B5", "w", 4), ("B5", "w", 0)])
async def test_block_rules(handler: BlockHandler, peer: PeerId, rule: str, world: str, height: int) -> None:
    request = GetBlockRequest(world_id=WorldId(world), height=U64(height))
    with pytest.raises(Refused) as caught:
        await handler.serve_block(peer, record.to_bytes(request))
    assert caught.value.rule == rule


async def test_garbage_is_the_askers_fault(handler: BlockHandler, peer: PeerId) -> None:
    with pytest.raises(DecodeError):
        await handler.serve_blocks(peer, b"\xff")
    with pytest.raises(DecodeError):
        await handler.serve_block(peer, b"")
