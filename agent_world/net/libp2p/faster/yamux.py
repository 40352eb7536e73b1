"""Yamux connections with a short way for the two frames of which traffic consists: plain data and plain credit.

Every other frame (with a flag, pings, farewells) and every ending of a stream is the library's own code. A frame fits
into one Noise message, frames that wait together are written together, and a sender out of credit goes on when credit
arrives and not at its next look.
"""

from __future__ import annotations

import logging
import struct
from typing import Any, Final

import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import (
    HEADER_SIZE,
    MAX_WINDOW_SIZE,
    TYPE_DATA,
    TYPE_WINDOW_UPDATE,
    Yamux,
    YamuxStream,
)

from agent_world.net.libp2p.faster.noise import FasterSession
from agent_world.net.libp2p.faster.pieces import Pieces
from agent_world.net.libp2p.faster.quiet_lock import QuietLock
from agent_world.wire.limits import KIB

log: Final = logging.getLogger(__name__)

FRAME_BODY_BYTES_MAX: Final = MAX_PLAINTEXT_LENGTH - HEADER_SIZE
"""One Noise message takes a frame whole; the library's frames of 64 KiB make a second message of 17 bytes."""
FRAMES_AT_ONCE: Final = 4
"""Frames of one stream written together; another stream waits for no more than 256 KiB."""
QUICK_BYTES: Final = 16 * KIB
"""A write of more gives other tasks a turn, even if the kernel takes it at once."""
CREDIT_BYTES_MAX: Final = 512 * KIB
"""Credit waits for no more than this to be read."""
CREDIT_WAIT_MAX_S: Final = 5.0
"""As in the library: a reader that gives no credit for so long loses its stream."""
CREDIT_POLL_S: Final = 0.01
"""Credit that came with a flag, or the end of the stream, is seen after this."""
_HEADER: Final = struct.Struct("!BBHII")


def use_faster_yamux(host: Any) -> None:
    """Every later connection of a host is a faster one; the library always makes its own class, whatever it is told."""
    muxer = host.get_network().upgrader.muxer_multistream
    new_conn = muxer.new_conn

    async def new_faster(secured: Any, peer: Any) -> Any:
        return FasterYamux.turned(await new_conn(secured, peer))

    muxer.new_conn = new_faster


class FasterYamux(Yamux):
    """A connection of streams."""

    _queued: dict[int, bytes]
    """Frames that wait for their turn to be written, by number."""
    _number: int
    _writing_failed: bool

    @classmethod
    def turned(cls, connection: Any) -> Any:
        """A connection that the library made and has not started yet, as a faster one."""
        connection.__class__ = cls
        connection.secured_conn = _UnusualFrames(connection, connection.secured_conn)
        connection.streams_lock, connection._write_lock = QuietLock(), QuietLock()
        connection._queued, connection._number, connection._writing_failed = {}, 0, False
        return connection

    async def open_stream(self) -> Any:
        """As the library's, with a faster stream."""
        return _faster(await super().open_stream())

    async def accept_stream(self) -> Any:
        """As the library's, with a faster stream."""
        return _faster(await super().accept_stream())

    async def _write_frame(self, data: bytes) -> None:
        """Write whatever waits with this frame; a frame that was begun is finished, whoever is cancelled."""
        number = self._number = self._number + 1
        self._queued[number] = data
        try:
            async with self._write_lock:
                if number in self._queued:
                    await self._write_queued()
                elif self._writing_failed:
                    raise ConnectionClosedError("the write that this frame was part of failed")
        finally:
            self._queued.pop(number, None)
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _write_queued(self) -> None:
        batch = b"".join(self._queued.values())
        self._queued.clear()
        self._writing_failed = True
        await self.secured_conn.write(batch)
        self._writing_failed = False


class _UnusualFrames:
    """The connection below as the library's reading task sees it: headers and bodies of unusual frames only."""

    def __init__(self, connection: FasterYamux, below: Any) -> None:
        self._connection = connection
        self._below = below
        self._body = 0
        """What is left of the body of a frame whose header was handed over."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    async def write(self, data: bytes) -> None:
        """Write all, whoever is cancelled meanwhile."""
        if isinstance(self._below, FasterSession):
            rest = self._below.write_at_once(data)
            if rest:
                with trio.CancelScope(shield=True):
                    await self._below.write_sealed(rest)
            elif len(data) > QUICK_BYTES:
                await trio.lowlevel.cancel_shielded_checkpoint()  # a body of many parts is not the only traffic
            return
        with trio.CancelScope(shield=True):
            await self._below.write(data)

    async def read(self, n: int | None = None) -> bytes:
        """The next ``n`` bytes of what the library is to handle."""
        if self._body:
            data: bytes = await self._below.read(n)
            self._body -= len(data)
            return data
        while True:
            header = await self._below.read(HEADER_SIZE)
            if len(header) != HEADER_SIZE:
                return bytes(header)  # the library knows what to do when a connection ends
            _version, kind, flags, stream_id, length = _HEADER.unpack(header)
            if kind == TYPE_DATA:
                self._body = length
                if flags or not 0 < length <= MAX_WINDOW_SIZE:
                    return bytes(header)
                self._data(stream_id, await self._take_body(length))
            elif kind == TYPE_WINDOW_UPDATE and not flags:
                self._credit(stream_id, length)
            else:
                return bytes(header)

    async def _take_body(self, length: int) -> bytes:
        if getattr(self._below, "ready", 0) >= length:
            self._body = 0
            return bytes(self._below.take(length))
        return await self._connection._read_data_body(length)

    def _data(self, stream_id: int, data: bytes) -> None:
        connection = self._connection
        stream = connection.streams.get(stream_id)
        if stream is None:
            return  # it was reset here while the frame was on its way
        connection.stream_buffers[stream_id].extend(data)
        stream.recv_window -= len(data)
        if stream.recv_window < 0:
            log.warning("a peer exceeded the window of stream %d by %d bytes", stream_id, -stream.recv_window)
            stream.recv_window = 0
        connection.stream_events[stream_id].set()
        if stream.closed:
            connection._finalize_stream_locked(stream, fully_closed=True)

    def _credit(self, stream_id: int, increment: int) -> None:
        stream: Any = self._connection.streams.get(stream_id)
        if stream is None:
            return
        stream.send_window += increment
        if isinstance(stream, FasterYamuxStream):
            stream.wake()
        if stream.closed:
            self._connection._finalize_stream_locked(stream, fully_closed=True)


class FasterYamuxStream(YamuxStream):
    """One stream; made by the library and then turned into this."""

    _credited: trio.Event | None = None

    def wake(self) -> None:
        """Credit has come."""
        if self._credited is not None:
            self._credited.set()

    async def read(self, n: int | None = -1) -> bytes:
        """As the library's; it does all that is not handing over bytes of an open stream."""
        connection = self.conn
        while n is not None and n > 0:
            buffer: Any = connection.stream_buffers.get(self.stream_id)
            if buffer is None or self.recv_closed or self.closed or connection.event_shutting_down.is_set():
                break
            if buffer:
                data: bytes = buffer.take(n)
                await self._give_credit(len(data))
                return data
            await connection.stream_events[self.stream_id].wait()
            if self.stream_id not in connection.stream_events:
                raise MuxedStreamEOF("Stream was removed")
            connection.stream_events[self.stream_id] = trio.Event()
        return await super().read(n)

    async def write(self, data: bytes | memoryview) -> None:
        """Write all within the peer's window; raises MuxedStreamError if the stream is closed or gets no credit."""
        at, total = 0, len(data)
        # Slices of a view are no copies; all of it is copied once, when it is put together with its headers.
        whole = data if total <= FRAME_BODY_BYTES_MAX else memoryview(data)
        while at < total:
            self._check_writable()
            if self.send_window <= 0:
                await self._wait_for_credit()
                continue
            frames: list[bytes | memoryview] = []
            while at < total and self.send_window > 0 and len(frames) < 2 * FRAMES_AT_ONCE:
                size = min(self.send_window, FRAME_BODY_BYTES_MAX, total - at)
                frames.append(_HEADER.pack(0, TYPE_DATA, 0, self.stream_id, size))
                frames.append(whole[at : at + size])
                self.send_window -= size
                at += size
            await self.conn._write_frame(b"".join(frames))

    async def _give_credit(self, size: int) -> None:
        """As the repaired library, but for a quarter of a window: a frame of credit costs as much as one of data."""
        self._pending_recv_release += size
        if self._pending_recv_release >= min(self.target_recv_window // 4, CREDIT_BYTES_MAX):
            size, self._pending_recv_release = self._pending_recv_release, 0
            await self._auto_tune_and_send_window_update(bytes_read=size)

    def _check_writable(self) -> None:
        if self.send_closed:
            raise MuxedStreamError("Stream is closed for sending")
        if self.closed:
            raise MuxedStreamError("Stream is closed")

    async def _wait_for_credit(self) -> None:
        self._credited = trio.Event()
        deadline = trio.current_time() + CREDIT_WAIT_MAX_S
        while self.send_window <= 0 and not self.closed:
            if trio.current_time() >= deadline:
                raise MuxedStreamError("Timed out waiting for window update after 5 seconds.")
            with trio.move_on_after(CREDIT_POLL_S):
                await self._credited.wait()


def _faster(stream: Any) -> Any:
    buffers = stream.conn.stream_buffers
    if stream.stream_id in buffers:  # a reset one may be gone already
        buffers[stream.stream_id] = Pieces(buffers[stream.stream_id])
    stream.__class__ = FasterYamuxStream
    stream.window_lock = QuietLock()
    return stream
