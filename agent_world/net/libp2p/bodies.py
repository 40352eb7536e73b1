"""Streamed bodies over libp2p: a stream for each, one request frame one way, a head and parts the other (D7).

Every part is a frame; a frame of length 0 is the end in good order, and a stream that ends otherwise was broken off.
Back-pressure is Yamux's: a writer waits for window, and the library resets a stream whose reader gives none for 5 s.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import trio

from agent_world.config import NetConfig
from agent_world.errors import DecodeError, ErrorCode, Refused
from agent_world.net.answering import FRAME_OVERHEAD_BYTES_MAX, check_request_size, is_well_formed, payload_of
from agent_world.net.bodies import BODIES_PER_PEER_MAX, BODY_TIME_MAX_S, BodySender, BodyServing
from agent_world.net.counters import Counters
from agent_world.net.libp2p.host import Host
from agent_world.net.libp2p.single_request import SingleRequests
from agent_world.net.libp2p.streams import FrameBroken, FrameReader, StreamLost, end_stream, framed, write_bytes
from agent_world.net.rates import class_of
from agent_world.net.reputation import Offence
from agent_world.wire import record
from agent_world.wire.ids import U32, U64, PeerId
from agent_world.wire.limits import BODY_PART_BYTES_MAX
from agent_world.wire.rpc import RR_BASE, RequestFrame, ResponseFrame

PARTS_PROTOCOL: Final = f"{RR_BASE}/parts"
"""A streamed body; ``/aw/rr/1.0.0/body`` is the one large answer of an ordinary request."""
_END: Final = framed(b"")


class Bodies:
    """Asking for and serving the streamed bodies of one host."""

    def __init__(self, host: Host, config: NetConfig, counters: Counters) -> None:
        self._gate = host.gate
        self._host = host
        self._config = config
        self._counters = counters
        self._slots: dict[PeerId, trio.Semaphore] = {}
        self.serving = BodyServing(counters, host.gate)
        self._single = SingleRequests(host.gate, counters, lost="body_lost")
        host.on_stream(PARTS_PROTOCOL, self._serve)

    def forget(self, peer: PeerId) -> None:
        """The last connection to this peer has ended."""
        self._slots.pop(peer, None)

    @asynccontextmanager
    async def open(
        self, peer: PeerId, method: str, payload: bytes, timeout_s: float, part_timeout_s: float | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """As ``interface.DistributedNetwork.open_body``; above BODIES_PER_PEER_MAX it waits for its turn."""
        check_request_size(method, payload)
        if not self._host.is_connected(peer):
            raise Refused(ErrorCode.NOT_AVAILABLE, f"not connected to {peer}")
        deadline = trio.current_time() + min(timeout_s, BODY_TIME_MAX_S)
        body = _Body(peer, deadline, part_timeout_s or self._config.request_timeout_s, self._counters)
        body.blamed = lambda: self._gate.blame(peer, Offence.BROKEN_FRAMING)
        slots = self._slots.setdefault(peer, trio.Semaphore(BODIES_PER_PEER_MAX))
        async with body.in_time("gave no turn", deadline):
            await self._gate.pace(peer, class_of(method), len(payload))
            await slots.acquire()
        stream = None
        try:
            async with body.in_time("opened no stream", body.part_deadline()):
                stream = await self._host.open_stream(peer, PARTS_PROTOCOL)
            await body.begin(stream, method, payload)
            self._counters.add("body_asked")
            self._gate.traffic.sent(peer, "method", method, len(payload))
            async with aclosing(body.parts()) as parts:
                yield parts
        finally:
            slots.release()
            if stream is not None:
                await end_stream(stream, politely=body.is_complete)

    async def _serve(self, stream: Any) -> None:
        async def answer(peer: PeerId, request: RequestFrame) -> bool:
            is_complete = await self.serving.run(peer, request, _sender(stream))
            if is_complete:
                await write_bytes(stream, _END)
            return is_complete

        await self._single.serve(stream, answer)


def _sender(stream: Any) -> BodySender:
    async def write(data: bytes) -> None:
        try:
            await write_bytes(stream, framed(data))
        except StreamLost as error:
            raise trio.BrokenResourceError(str(error)) from None

    async def head(response: ResponseFrame) -> None:
        await write(record.to_bytes(response))

    return BodySender(head, write)


class _Body:
    """The asking side of one body."""

    def __init__(self, peer: PeerId, deadline: float, part_timeout_s: float, counters: Counters) -> None:
        self._peer = peer
        self._deadline = deadline
        self._part_timeout_s = part_timeout_s
        self._counters = counters
        self._reader: FrameReader | None = None
        self.blamed: Callable[[], None] = lambda: None
        self.is_complete = False

    def part_deadline(self) -> float:
        """When the next part must be here."""
        return min(self._deadline, trio.current_time() + self._part_timeout_s)

    @asynccontextmanager
    async def in_time(self, what: str, deadline: float) -> AsyncIterator[None]:
        """Everything that may go wrong on the way as the Refused that the reader is told."""
        try:
            with trio.fail_at(deadline):
                yield
        except trio.TooSlowError:
            self._counters.add("body_timeout")
            raise Refused(ErrorCode.TIMEOUT, f"{self._peer} {what} in time") from None
        except StreamLost as error:
            self._counters.add("body_lost")
            raise Refused(ErrorCode.NOT_AVAILABLE, f"the body of {self._peer} broke off: {error}") from None
        except (FrameBroken, DecodeError) as error:
            self._counters.add("request_bad_frame")
            self.blamed()
            raise Refused(ErrorCode.NOT_AVAILABLE, f"{self._peer} broke the request protocol: {error}") from None

    async def begin(self, stream: Any, method: str, payload: bytes) -> None:
        """Send the request and read the head; raises Refused as the peer said."""
        deadline = self.part_deadline()
        left_ms = U32(max(1, math.ceil((self._deadline - trio.current_time()) * 1000)))
        frame = RequestFrame(id=U64(1), method=method, payload=payload, deadline_ms=left_ms)
        async with self.in_time("did not answer", deadline):
            await write_bytes(stream, framed(record.to_bytes(frame)))
            self._reader = FrameReader(stream)
            data = await self._reader.next(FRAME_OVERHEAD_BYTES_MAX)
            if data is None:
                raise StreamLost("the stream ended without an answer")
            head = record.from_bytes(ResponseFrame, data, size_max=FRAME_OVERHEAD_BYTES_MAX)
            if not is_well_formed(head) or head.elsewhere or head.payload:
                raise FrameBroken("the head of a body is neither empty nor an error")
        payload_of(head)

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """The parts up to the end."""
        assert self._reader is not None, "parts are read after begin"
        while True:
            async with self.in_time("sent no part", self.part_deadline()):
                part = await self._reader.next(BODY_PART_BYTES_MAX)
                if part is None:
                    raise StreamLost("the stream ended before the body")
            if not part:
                self.is_complete = True
                return
            self._counters.add("body_bytes_received", len(part))
            yield part
