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
        self._data = b""
        """What was read last; ``_at`` bytes of it are taken."""
        self._at = 0

    @property
    def has_more(self) -> bool:
        """Whether something of the next frame is here already."""
        return self._at < len(self._data)

    async def next(self, size_max: int) -> bytes | None:
        """The next frame, or None at a clean end; raises StreamLost and FrameBroken."""
        if self._at == len(self._data) and not await self._refill():
            return None
        frame = self._whole(size_max)  # nearly always: then there is nothing to wait for, and no deadline to set
        if frame is not None:
            return frame
        with trio.move_on_after(PARTIAL_FRAME_MAX_S):
            length = await self._length(size_max)
            end = self._at + length
            if end <= len(self._data):
                frame = self._data[self._at : end]
                self._at = end
                return frame
            return await self._joined(length)
        raise FrameBroken(f"a frame was not complete after {PARTIAL_FRAME_MAX_S} s")

    def _whole(self, size_max: int) -> bytes | None:
        """The next frame if it is small and here."""
        data, at = self._data, self._at
        first = data[at]
        second = data[at + 1] if first >= 0x80 and len(data) > at + 1 else 0
        if second >= 0x80:
            return None
        start, length = (at + 1, first) if first < 0x80 else (at + 2, first & 0x7F | second << 7)
        if length > size_max or len(data) < start + length:
            return None
        self._at = start + length
        return data[start : self._at]

    async def _joined(self, length: int) -> bytes:
        """A frame of several reads, copied once."""
        pieces: list[bytes | memoryview] = [memoryview(self._data)[self._at :]]
        left = length - len(pieces[0])
        while left > 0:
            if not await self._refill():
                raise StreamLost("the stream ended inside a frame")
            self._at = min(left, len(self._data))
            left -= self._at
            pieces.append(self._data if self._at == len(self._data) else memoryview(self._data)[: self._at])
        if self._at == len(self._data):
            self._data, self._at = b"", 0  # a stream that waits for its next frame keeps nothing of the last
        return b"".join(pieces)

    async def _length(self, size_max: int) -> int:
        length = position = 0
        while True:
            if self._at == len(self._data) and not await self._refill():
                raise StreamLost("the stream ended inside a length")
            byte = self._data[self._at]
            self._at += 1
            length |= (byte & 0x7F) << 7 * position
            position += 1
            if byte < 0x80:
                break
            if position == LENGTH_BYTES_MAX:
                raise FrameBroken("a length of more than five bytes")
        if length > size_max:
            raise FrameBroken(f"a frame of {length} bytes is over the limit of {size_max}")
        return length

    async def _refill(self) -> bool:
        """The next read in place of the last one, of which all is taken; False at the end."""
        try:
            self._data = await self._stream.read(READ_BYTES)
        except EOFError:
            return False
        except LOST as error:
            raise StreamLost(str(error) or type(error).__name__) from None
        self._at = 0
        return bool(self._data)


def framed(*pieces: bytes) -> bytes:
    """Length and body as they travel; the body in pieces, which are copied once."""
    if len(pieces) == 1:
        return _length_varint(len(pieces[0])) + pieces[0]
    return b"".join((_length_varint(sum(map(len, pieces))), *pieces))


async def write_bytes(stream: Any, data: bytes) -> None:
    """Write all; raises StreamLost. After a cancellation the stream is of no use and must be reset."""
    try:
        if len(data) <= WRITE_BYTES:
            await stream.write(data)
            return
        with memoryview(data) as whole:
            for start in range(0, len(data), WRITE_BYTES):
                await stream.write(whole[start : start + WRITE_BYTES])
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
