"""net/bodies.py: who is sent a body, and how it ends, whatever its handler and its reader do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from agent_world.config import NetConfig
from agent_world.errors import BlobNotFound, ErrorCode, Refused, RemoteError
from agent_world.net.bodies import BODIES_PER_PEER_MAX, PART_WRITE_MAX_S, BodySender, BodyServing
from agent_world.net.counters import Counters
from agent_world.net.gate import Gate
from agent_world.net.interface import BodyHandler
from agent_world.wire.ids import U32, U64, PeerId, PublicKey, peer_id_of
from agent_world.wire.limits import BODY_PART_BYTES_MAX
from agent_world.wire.rpc import RequestFrame, ResponseFrame

PEER = peer_id_of(PublicKey(bytes(32)))
METHOD = "/aw/rr/1.0.0/test"
FRAME = RequestFrame(id=U64(7), method=METHOD, payload=b"", deadline_ms=U32(60_000))


class Reader:
    """What a network would send on."""

    def __init__(self) -> None:
        self.heads: list[ResponseFrame] = []
        self.parts: list[bytes] = []
        self.gate: trio.Event | None = None
        self.is_gone = False

    async def head(self, response: ResponseFrame) -> None:
        await trio.lowlevel.checkpoint()
        self.heads.append(response)

    async def part(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        if self.is_gone:
            raise trio.BrokenResourceError
        self.parts.append(data)


def new_serving() -> tuple[BodyServing, Counters]:
    counters = Counters()
    return BodyServing(counters, Gate(NetConfig(), counters, trio.current_time)), counters


async def run(handler: BodyHandler, reader: Reader, frame: RequestFrame = FRAME) -> tuple[bool, dict[str, int]]:
    serving, counters = new_serving()
    serving.serve(METHOD, handler)
    return await serving.run(PEER, frame, BodySender(reader.head, reader.part)), dict(counters.snapshot())


async def three(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
    for part in (b"1", b"2", b"3"):
        yield part


async def test_a_head_then_the_parts() -> None:
    reader = Reader()
    complete, counted = await run(three, reader)
    assert complete
    assert [(head.id, head.payload, head.error) for head in reader.heads] == [(7, b"", None)]
    assert reader.parts == [b"1", b"2", b"3"]
    assert counted["body_bytes_sent"] == 3


@pytest.mark.parametrize(
    ("error", "code", "rule"),
    [
        (Refused(ErrorCode.NOT_FOUND, "no", rule="L1"), ErrorCode.NOT_FOUND, "L1"),
        (RemoteError("D2", "bad"), ErrorCode.BAD_REQUEST, "D2"),
        (BlobNotFound("secret path"), ErrorCode.NOT_FOUND, ""),
        (ValueError("secret"), ErrorCode.NOT_AVAILABLE, ""),
    ],
)
async def test_an_error_before_the_first_part_is_told(error: Exception, code: ErrorCode, rule: str) -> None:
    async def failing(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        raise error
        yield b""

    reader = Reader()
    complete, counted = await run(failing, reader)
    told = reader.heads[0].error
    assert complete
    assert told is not None
    assert (told.code, told.rule, "secret" in told.message) == (code, rule, False)
    assert ("body_handler_failed" in counted) is isinstance(error, ValueError)


@pytest.mark.parametrize("bad", [b"", bytes(BODY_PART_BYTES_MAX + 1), None])
async def test_an_error_after_it_breaks_off(bad: bytes | None) -> None:
    async def failing(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        yield b"1"
        if bad is None:
            raise Refused(ErrorCode.NOT_FOUND, "gone")
        yield bad

    reader = Reader()
    complete, counted = await run(failing, reader)
    assert not complete
    assert (len(reader.heads), reader.parts, counted["body_broken_off"]) == (1, [b"1"], 1)


async def test_nobody_serves_it() -> None:
    reader = Reader()
    frame = RequestFrame(id=U64(1), method="/aw/rr/1.0.0/none", payload=b"", deadline_ms=U32(1_000))
    await run(three, reader, frame)
    assert reader.heads[0].error is not None
    assert reader.heads[0].error.code is ErrorCode.UNSUPPORTED


async def test_the_next_part_is_made_only_when_there_is_room(autojump_clock: object) -> None:
    made = []

    async def many(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        for number in range(100):
            made.append(number)
            yield b"x"

    reader = Reader()
    reader.gate = trio.Event()
    complete, counted = await run(many, reader)
    assert not complete, "a reader that takes nothing loses the body"
    assert (made, counted["body_reader_gone"]) == ([0], 1)
    assert trio.current_time() >= PART_WRITE_MAX_S


async def test_a_reader_that_is_gone_ends_the_handler() -> None:
    closed = []

    async def many(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.append(True)

    reader = Reader()
    reader.is_gone = True
    complete, counted = await run(many, reader)
    assert (complete, closed, counted["body_reader_gone"]) == (False, [True], 1)


async def test_the_deadline_of_the_asker(autojump_clock: object) -> None:
    async def slow(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        yield b"1"
        await trio.sleep_forever()

    reader = Reader()
    frame = RequestFrame(id=U64(1), method=METHOD, payload=b"", deadline_ms=U32(2_000))
    complete, counted = await run(slow, reader, frame)
    assert (complete, counted["body_deadline"], trio.current_time() < 10) == (False, 1, True)


async def test_a_peer_has_a_few_bodies_at_a_time_and_gets_its_places_back() -> None:
    (serving, _), gate = new_serving(), trio.Event()

    async def waiting(_peer: PeerId, _data: bytes) -> AsyncIterator[bytes]:
        await gate.wait()
        yield b"1"

    serving.serve(METHOD, waiting)
    late = Reader()
    async with trio.open_nursery() as nursery:
        for _ in range(BODIES_PER_PEER_MAX):
            reader = Reader()
            nursery.start_soon(serving.run, PEER, FRAME, BodySender(reader.head, reader.part))
        await trio.testing.wait_all_tasks_blocked()
        await serving.run(PEER, FRAME, BodySender(late.head, late.part))
        assert late.heads[0].error is not None
        assert late.heads[0].error.code is ErrorCode.BUSY
        gate.set()
    assert await serving.run(PEER, FRAME, BodySender(late.head, late.part))
    assert late.parts == [b"1"]
