"""Frames on a libp2p stream: an unsigned varint of the length, then so many bytes.

The library's own reader gives up after 101 reads, so it cannot take bodies above about 6 MiB.
"""

from __future__ import annotations

from typing import Any, Final

import trio
from libp2p.exceptions import BaseLibp2pError

from agent_world.wire.limits import KIB

READ_BYTES: Final = 64 * KIB
"""Asked of the stream at once; a yamux frame carries no more."""
LENGTH_BYTES_MAX: Final = 5
"""Bytes of a length varint; four would do for the largest body."""
PARTIAL_FRAME_MAX_S: Final = 30.0
"""A frame that has begun must be complete within this."""
WRITE_BYTES: Final = 256 * KIB
"""Handed to the stream at once, so that a large body is not copied as a whole."""

LOST: Final = (BaseLibp2pError, EOFError, OSError, trio.ClosedResourceError, trio.BrokenResourceError)
"""How the library says that a stream or its connection is gone."""


class StreamLost(Exception):
    """The stream ended inside a frame, or its connection broke."""


class FrameBroken(Exception):
    """The peer broke the framing: a length over the limit, a length that never ends, or a frame never completed."""


class FrameReader:
    """Frames of one stream, in order."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def next(self, size_max: int) -> bytes | None:
        """The next frame, or None at a clean end; raises StreamLost and FrameBroken."""
        if not self._buffer and not await self._fill():
            return None
        frame = self._whole(size_max)  # nearly always: then there is nothing to wait for, and no deadline to set
        if frame is not None:
            return frame
        with trio.move_on_after(PARTIAL_FRAME_MAX_S):
            length, start = await self._length(size_max)
            end = start + length
            while len(self._buffer) < end:
                if not await self._fill():
                    raise StreamLost("the stream ended inside a frame")
            return self._cut(start, end)
        raise FrameBroken(f"a frame was not complete after {PARTIAL_FRAME_MAX_S} s")

    def _whole(self, size_max: int) -> bytes | None:
        """The next frame if it is small and here."""
        first = self._buffer[0]
        second = self._buffer[1] if first >= 0x80 and len(self._buffer) > 1 else 0
        if second >= 0x80:
            return None
        start, length = (1, first) if first < 0x80 else (2, first & 0x7F | second << 7)
        if length > size_max or len(self._buffer) < start + length:
            return None
        return self._cut(start, start + length)

    def _cut(self, start: int, end: int) -> bytes:
        frame = bytes(memoryview(self._buffer)[start:end])
        del self._buffer[:end]
        return frame

    async def _length(self, size_max: int) -> tuple[int, int]:
        length = position = 0
        while True:
            if position == len(self._buffer) and not await self._fill():
                raise StreamLost("the stream ended inside a length")
            byte = self._buffer[position]
            length |= (byte & 0x7F) << 7 * position
            position += 1
            if byte < 0x80:
                break
            if position == LENGTH_BYTES_MAX:
                raise FrameBroken("a length of more than five bytes")
        if length > size_max:
            raise FrameBroken(f"a frame of {length} bytes is over the limit of {size_max}")
        return length, position

    async def _fill(self) -> bool:
        try:
            data = await self._stream.read(READ_BYTES)
        except EOFError:
            return False
        except LOST as error:
            raise StreamLost(str(error) or type(error).__name__) from None
        self._buffer += data
        return bool(data)


def framed(body: bytes) -> bytes:
    """Length and body as they travel."""
    return _length_varint(len(body)) + body


async def write_bytes(stream: Any, data: bytes) -> None:
    """Write all; raises StreamLost. After a cancellation the stream is of no use and must be reset."""
    try:
        for start in range(0, len(data), WRITE_BYTES):
            await stream.write(data[start : start + WRITE_BYTES])
    except LOST as error:
        raise StreamLost(str(error) or type(error).__name__) from None


async def end_stream(stream: Any, *, politely: bool) -> None:
    """Close or reset; never raises for a stream that is gone already."""
    with trio.CancelScope(shield=True), trio.move_on_after(1):
        try:
            if politely:
                await stream.close()
            else:
                await stream.reset()
        except LOST:
            return  # nobody is left to tell


def _length_varint(length: int) -> bytes:
    encoded = bytearray()
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)
