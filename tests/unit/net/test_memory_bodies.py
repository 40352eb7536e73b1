"""net/memory_bodies.py: bodies between two nodes in virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from agent_world.errors import ErrorCode, Refused
from agent_world.net.memory import InMemoryNetwork, LinkSettings
from agent_world.net.memory_bodies import ROOM_PARTS
from agent_world.net.memory_node import InMemoryNode
from agent_world.wire.ids import PeerId, PublicKey, peer_id_of

METHOD = "/aw/rr/1.0.0/test"


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[InMemoryNetwork, InMemoryNode, InMemoryNode]]:
    hub = InMemoryNetwork(random.Random(1), LinkSettings(delay_min_s=0.01, delay_max_s=0.02))
    async with hub.open():
        one, two = (hub.node(peer_id_of(PublicKey(bytes([number]) * 32))) for number in (1, 2))
        one.dial(two.peer_id, two.listen_addresses()[0])
        await trio.sleep(0.5)
        yield hub, one, two


async def read(node: InMemoryNode, peer: PeerId, **options: float) -> list[bytes]:
    async with node.open_body(peer, METHOD, b"q", **{"timeout_s": 60.0, **options}) as parts:
        return [part async for part in parts]


async def counting(_peer: PeerId, data: bytes) -> AsyncIterator[bytes]:
    for number in range(50):
        yield data + bytes([number])


async def test_parts_arrive_in_order(autojump_clock: object) -> None:
    async with pair() as (_, one, two):
        two.serve_body(METHOD, counting)
        assert await read(one, two.peer_id) == [b"q" + bytes([number]) for number in range(50)]
        assert one.counters()["body_bytes_received"] == two.counters()["body_bytes_sent"] == 100


async def test_errors_as_of_requests(autojump_clock: object) -> None:
    async def refusing(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        raise Refused(ErrorCode.NOT_FOUND, "no", rule="L1")
        yield b""

    async with pair() as (_, one, two):
        codes = []
        for target in (two.peer_id, peer_id_of(PublicKey(bytes(32)))):
            with pytest.raises(Refused) as caught:
                await read(one, target)
            codes.append(caught.value.code)
        two.serve_body(METHOD, refusing)
        with pytest.raises(Refused) as caught:
            await read(one, two.peer_id)
        assert [*codes, caught.value.code] == [ErrorCode.UNSUPPORTED, ErrorCode.NOT_AVAILABLE, ErrorCode.NOT_FOUND]
        assert caught.value.rule == "L1"


async def test_a_slow_reader_holds_the_sender_back(autojump_clock: object) -> None:
    made = []

    async def many(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        for number in range(50):
            made.append(number)
            yield b"x"

    async with pair() as (_, one, two):
        two.serve_body(METHOD, many)
        async with one.open_body(two.peer_id, METHOD, b"", timeout_s=60) as parts:
            await trio.sleep(5)
            assert len(made) <= ROOM_PARTS + 1
            assert len([part async for part in parts]) == 50


async def test_leaving_early_ends_the_handler_and_frees_its_place(autojump_clock: object) -> None:
    closed = []

    async def endless(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.append(True)

    async with pair() as (_, one, two):
        two.serve_body(METHOD, endless)
        for _ in range(10):
            async with one.open_body(two.peer_id, METHOD, b"", timeout_s=60) as parts:
                assert await anext(parts) == b"x"
        await trio.sleep(1)
        assert len(closed) == 10


async def test_a_lost_connection_breaks_the_body_off(autojump_clock: object) -> None:
    async def pausing(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        yield b"1"
        await trio.sleep_forever()

    async with pair() as (hub, one, two):
        two.serve_body(METHOD, pausing)
        async with one.open_body(two.peer_id, METHOD, b"", timeout_s=60) as parts:
            assert await anext(parts) == b"1"
            hub.disconnect(one.peer_id, two.peer_id)
            with pytest.raises(Refused) as caught:
                await anext(parts)
        assert caught.value.code is ErrorCode.NOT_AVAILABLE


@pytest.mark.parametrize("limit", ["timeout_s", "part_timeout_s"])
async def test_deadlines_of_a_part_and_of_all(autojump_clock: object, limit: str) -> None:
    async def slow(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        for _ in range(10):
            await trio.sleep(3)
            yield b"x"

    async with pair() as (_, one, two):
        two.serve_body(METHOD, slow)
        assert len(await read(one, two.peer_id)) == 10
        with pytest.raises(Refused) as caught:
            await read(one, two.peer_id, **{limit: 2.0 if limit == "part_timeout_s" else 10.0})
        # The sender gives up at the same deadline, and its word may be the first to arrive.
        assert caught.value.code in (ErrorCode.TIMEOUT, ErrorCode.NOT_AVAILABLE)


async def test_bodies_in_one_peer_wait_for_their_turn(autojump_clock: object) -> None:
    async with pair() as (_, one, two):
        two.serve_body(METHOD, counting)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(read, one, two.peer_id)
        assert two.counters()["body_served"] == 20
        assert "body_busy" not in two.counters()
