from collections import deque

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.utils.varint import encode_uvarint
from trio.testing import MockClock

from agent_world.net.libp2p import streams
from agent_world.net.libp2p.streams import FrameBroken, FrameReader, StreamLost, end_stream, framed, write_bytes


class FakeStream:
    """Gives what is put into it in the pieces it was put in; then ends as told."""

    def __init__(self, *pieces: bytes, end: Exception | None = None) -> None:
        self.pieces = deque(pieces)
        self.end = end
        self.written = bytearray()
        self.largest_write = 0
        self.ended = ""

    async def read(self, size: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.pieces:
            piece = self.pieces.popleft()
            assert len(piece) <= size
            return piece
        if self.end is None:
            await trio.sleep_forever()
        raise self.end or AssertionError

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.end is not None:
            raise self.end
        self.largest_write = max(self.largest_write, len(data))
        self.written += data

    async def close(self) -> None:
        self.ended = "close"
        if self.end is not None:
            raise self.end

    async def reset(self) -> None:
        self.ended = "reset"


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 50))
@settings(deadline=None, max_examples=60)
def test_frames_come_back_whatever_the_pieces(bodies: list[bytes], piece: int) -> None:
    wire = b"".join(framed(body) for body in bodies)
    stream = FakeStream(*(wire[at : at + piece] for at in range(0, len(wire), piece)), end=StreamEOF())

    async def read_all() -> list[bytes]:
        reader = FrameReader(stream)
        frames = []
        while (frame := await reader.next(300)) is not None:
            frames.append(frame)
        return frames

    assert trio.run(read_all) == bodies


@given(st.integers(0, 2**34))
@settings(deadline=None, max_examples=100)
def test_length_is_the_library_s_unsigned_varint(length: int) -> None:
    assert streams._length_varint(length) == encode_uvarint(length)


async def test_a_body_far_over_the_library_s_hundred_reads() -> None:
    wire = framed(bytes(8 << 20))
    stream = FakeStream(*(wire[at : at + 1024] for at in range(0, len(wire), 1024)), end=StreamEOF())
    assert await FrameReader(stream).next(8 << 20) == bytes(8 << 20)


@pytest.mark.parametrize("wire", [b"\xff" * 9, framed(bytes(101))[:3], b"\xff\xff\xff\xff\x7f"])
async def test_a_length_over_the_limit_or_without_end_is_broken_before_the_body(wire: bytes) -> None:
    with pytest.raises(FrameBroken):
        await FrameReader(FakeStream(wire)).next(100)


async def test_the_limit_itself_is_allowed() -> None:
    assert await FrameReader(FakeStream(framed(bytes(100)))).next(100) == bytes(100)


@pytest.mark.parametrize("wire", [b"\x80", framed(b"abc")[:-1]])
@pytest.mark.parametrize("end", [StreamEOF(), StreamReset()])
async def test_an_end_inside_a_frame_is_a_loss(wire: bytes, end: Exception) -> None:
    with pytest.raises(StreamLost):
        await FrameReader(FakeStream(wire, end=end)).next(100)


async def test_an_end_between_frames_is_clean_and_a_reset_there_is_not() -> None:
    assert await FrameReader(FakeStream(end=StreamEOF())).next(100) is None
    with pytest.raises(StreamLost):
        await FrameReader(FakeStream(end=StreamReset())).next(100)


def test_waiting_for_a_frame_is_free_but_a_begun_one_must_come() -> None:
    async def wait() -> None:
        with trio.move_on_after(10_000) as scope:
            await FrameReader(FakeStream()).next(100)
        assert scope.cancelled_caught
        started = trio.current_time()
        with pytest.raises(FrameBroken):
            await FrameReader(FakeStream(framed(b"abc")[:2])).next(100)
        assert trio.current_time() - started == pytest.approx(streams.PARTIAL_FRAME_MAX_S)

    trio.run(wait, clock=MockClock(autojump_threshold=0))


async def test_large_writes_go_in_slices() -> None:
    stream = FakeStream()
    data = bytes(range(256)) * 4096
    await write_bytes(stream, data)
    assert stream.written == data
    assert stream.largest_write == streams.WRITE_BYTES
    with pytest.raises(StreamLost):
        await write_bytes(FakeStream(end=StreamReset()), b"x")


async def test_ending_a_stream_that_is_gone_is_no_error() -> None:
    stream = FakeStream(end=StreamReset())
    await end_stream(stream, politely=True)
    assert stream.ended == "close"
    await end_stream(stream, politely=False)
    assert stream.ended == "reset"
