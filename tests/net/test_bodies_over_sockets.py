"""Streamed bodies between real hosts: order, size, errors, cancellation, and a peer that breaks the framing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from agent_world.errors import ErrorCode, Refused
from agent_world.net.bodies import BODIES_PER_PEER_MAX
from agent_world.net.libp2p.bodies import PARTS_PROTOCOL
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.net.libp2p.streams import LOST, FrameReader, end_stream, framed
from agent_world.wire import record
from agent_world.wire.ids import U64, PeerId
from agent_world.wire.limits import MIB
from agent_world.wire.rpc import ResponseFrame

METHOD = "/aw/rr/1.0.0/test"
PART = bytes(range(256)) * 1024
OK = framed(record.to_bytes(ResponseFrame(id=U64(1), payload=b"", error=None, elsewhere=False)))


async def read(network: Libp2pNetwork, peer: PeerId, **options: float) -> list[bytes]:
    async with network.open_body(peer, METHOD, b"q", **{"timeout_s": 30.0, **options}) as parts:
        return [part async for part in parts]


async def refusal(network: Libp2pNetwork, peer: PeerId, **options: float) -> ErrorCode:
    with pytest.raises(Refused) as caught:
        await read(network, peer, **options)
    return caught.value.code


async def test_sixty_four_mebibytes_arrive_in_order(networks: Any) -> None:
    async def body(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        for number in range(256):
            yield number.to_bytes(4, "big") + PART[4:]

    async with networks(2) as (one, two):
        two.serve_body(METHOD, body)
        async with one.open_body(two.peer_id, METHOD, b"", timeout_s=60) as parts:
            numbers = []
            async for part in parts:
                assert part[4:] == PART[4:]
                numbers.append(int.from_bytes(part[:4], "big"))
        assert numbers == list(range(256))
        assert one.counters()["body_bytes_received"] == 64 * MIB


async def test_errors_as_of_requests(networks: Any) -> None:
    async def refusing(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        raise Refused(ErrorCode.NOT_FOUND, "no", rule="L1")
        yield b""

    async def breaking(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        yield b"1"
        raise ValueError("a bug")

    async with networks(3) as (one, two, three):
        assert await refusal(one, two.peer_id) is ErrorCode.UNSUPPORTED
        assert await refusal(one, three.peer_id) is ErrorCode.NOT_AVAILABLE, "not connected; nobody else is asked"
        two.serve_body(METHOD, refusing)
        assert await refusal(one, two.peer_id) is ErrorCode.NOT_FOUND
        two.serve_body(METHOD, breaking)
        assert await refusal(one, two.peer_id) is ErrorCode.NOT_AVAILABLE


async def test_leaving_early_ends_the_handler_and_frees_its_place(networks: Any, until: Any) -> None:
    closed = []

    async def endless(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        try:
            while True:
                yield PART
        finally:
            closed.append(True)

    async with networks(2) as (one, two):
        two.serve_body(METHOD, endless)
        for _ in range(2 * BODIES_PER_PEER_MAX):
            async with one.open_body(two.peer_id, METHOD, b"", timeout_s=30) as parts:
                assert await anext(parts) == PART
            await until(lambda: two._bodies.serving._in_flight.total() == 0)
        assert len(closed) == 2 * BODIES_PER_PEER_MAX


async def test_a_reader_that_pauses_holds_the_sender_back(networks: Any) -> None:
    made = 0

    async def endless(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield PART

    async with networks(2) as (one, two):
        two.serve_body(METHOD, endless)
        async with one.open_body(two.peer_id, METHOD, b"", timeout_s=30) as parts:
            await anext(parts)
            await trio.sleep(1)  # only real time shows that a socket stands still
            assert made < 64, "at most the window of 16 MiB is on the way"


async def test_no_part_in_time(networks: Any) -> None:
    async def silent(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        yield b"1"
        await trio.sleep_forever()

    async with networks(2) as (one, two):
        two.serve_body(METHOD, silent)
        assert await refusal(one, two.peer_id, part_timeout_s=0.2) is ErrorCode.TIMEOUT


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff\xff\xff\xff\xff\xff",
        framed(b"no record"),
        OK + b"\xff\xff\xff\x7f",
        OK + framed(b"part") + b"\x05abc",
        OK + framed(b"part"),
    ],
    ids=["nothing", "endless length", "no head", "part too long", "cut part", "no end"],
)
async def test_a_peer_that_breaks_the_framing(networks: Any, stranger: Any, join: Any, answer: bytes) -> None:
    async with networks(1) as (one,), stranger() as host:

        async def serve(stream: Any) -> None:
            await FrameReader(stream).next(10_000)
            await stream.write(answer or b"")
            await end_stream(stream, politely=True)

        host.on_stream(PARTS_PROTOCOL, serve)
        await join(host, one)
        assert await refusal(one, host.peer_id) is ErrorCode.NOT_AVAILABLE


async def test_garbage_in_place_of_a_request(networks: Any, stranger: Any, join: Any) -> None:
    async with networks(1) as (one,), stranger() as host:
        await join(host, one)
        for garbage in (b"\xff" * 10, framed(b"no request"), b"\x00"):
            stream = await host.open_stream(one.peer_id, PARTS_PROTOCOL)
            await stream.write(garbage)
            with trio.fail_after(30), pytest.raises(LOST):
                await stream.read(100)
            await end_stream(stream, politely=False)
        assert one.counters()["request_bad_frame"] == 3
