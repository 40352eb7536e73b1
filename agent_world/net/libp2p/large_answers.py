"""Asking for large answers, each on a stream that has nothing else to do meanwhile and is kept for the next (D7).

Opening a stream costs both ends two negotiations, some 1.2 ms of processor time each; a request on an open one a tenth.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import attrs
import trio

from agent_world.errors import DecodeError, ErrorCode, Refused
from agent_world.net.answering import FRAME_OVERHEAD_BYTES_MAX, is_well_formed
from agent_world.net.counters import Counters
from agent_world.net.libp2p.host import Host
from agent_world.net.libp2p.streams import FrameBroken, FrameReader, StreamLost, end_stream, framed, write_bytes
from agent_world.net.reputation import Offence
from agent_world.wire import record
from agent_world.wire.ids import U32, U64, PeerId
from agent_world.wire.limits import RPC_BODY_BYTES_MAX
from agent_world.wire.rpc import RR_BASE, RequestFrame, ResponseFrame

BODY_PROTOCOL: Final = f"{RR_BASE}/body"
"""Request frames, one at a time, each answered by a response frame of up to RPC_BODY_BYTES_MAX."""
AT_ONCE_MAX: Final = 8
"""Large answers that one peer is asked for at once; further ones wait their turn. They share one connection, so more at
a time come no sooner (2 to 16 were equally fast), and each waits for it at both ends with all its bytes in memory."""
IDLE_S: Final = 5.0
"""A stream without a question for so long is closed; who answers waits twice as long for the next."""


@attrs.define(slots=True, eq=False)
class _Open:
    """An open stream, how many questions it has had, and since when it has none."""

    stream: Any
    reader: FrameReader
    asked: int = 0
    waits_since: float = 0.0


class LargeAnswers:
    """Of one network; ``start`` runs a task in a nursery that outlives every request."""

    def __init__(self, host: Host, counters: Counters, start: Callable[..., None]) -> None:
        self._host = host
        self._counters = counters
        self._start = start
        self._idle: dict[PeerId, deque[_Open]] = {}
        """Oldest first; never more than AT_ONCE_MAX of a peer, as no more are opened."""
        self._slots: dict[PeerId, trio.Semaphore] = {}
        self._is_closing = False

    async def ask(self, peer: PeerId, method: str, payload: bytes, deadline: float) -> ResponseFrame:
        """Send and wait; the caller brings the deadline. Raises Refused."""
        slots = self._slots.setdefault(peer, trio.Semaphore(AT_ONCE_MAX))
        async with slots:
            self._counters.add("request_body_stream")
            frame = RequestFrame(id=U64(1), method=method, payload=payload, deadline_ms=left_ms(deadline))
            response = None
            if (kept := self._kept(peer)) is not None:
                response = await self._asked(peer, kept, frame)
                if response is None:
                    self._counters.add("request_body_stream_gone")
            if response is None:
                response = await self._asked(peer, await self._opened(peer), frame)
            if response is None:
                raise Refused(ErrorCode.NOT_AVAILABLE, f"the stream to {peer} was lost before the answer")
            return response

    def forget(self, peer: PeerId) -> None:
        """The last connection to this peer has ended, and its streams with it."""
        self._idle.pop(peer, None)
        self._slots.pop(peer, None)

    def _kept(self, peer: PeerId) -> _Open | None:
        """The stream that was used last, so that those above what is needed grow old."""
        idle = self._idle.get(peer)
        if not idle:
            return None
        kept = idle.pop()
        if not idle:
            del self._idle[peer]
        return kept

    async def _opened(self, peer: PeerId) -> _Open:
        stream = await self._host.open_stream(peer, BODY_PROTOCOL)
        return _Open(stream, FrameReader(stream))

    async def _asked(self, peer: PeerId, on: _Open, frame: RequestFrame) -> ResponseFrame | None:
        """The answer; None if the stream had ended before: the question may be put again on another."""
        size_max = RPC_BODY_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX
        is_whole = False
        try:
            on.asked += 1
            numbered = attrs.evolve(frame, id=U64(on.asked))
            await write_bytes(on.stream, framed(record.to_bytes(numbered)))
            answer = await on.reader.next(size_max)
            if answer is None:
                return None
            response = decode_response(answer, size_max)
            if response.elsewhere or response.id != on.asked:
                raise FrameBroken("a body stream points elsewhere, or answers another question")
            is_whole = True
            return response
        except StreamLost:
            return None
        except (FrameBroken, DecodeError) as error:
            self._counters.add("request_bad_frame")
            self._host.gate.blame(peer, Offence.BROKEN_FRAMING)
            raise Refused(ErrorCode.NOT_AVAILABLE, f"{peer} broke the request protocol: {error}") from None
        finally:
            if is_whole and self._host.is_connected(peer):
                self._keep(peer, on)
            else:
                await end_stream(on.stream, politely=is_whole)

    def _keep(self, peer: PeerId, on: _Open) -> None:
        idle = self._idle.setdefault(peer, deque())
        on.waits_since = trio.current_time()
        idle.append(on)
        if not self._is_closing:
            self._is_closing = True
            self._start(self._close_unused)

    async def _close_unused(self) -> None:
        """Until no stream is kept."""
        try:
            while self._idle:
                await trio.sleep(IDLE_S)
                latest = trio.current_time() - IDLE_S
                for peer, idle in list(self._idle.items()):
                    while idle and idle[0].waits_since <= latest:
                        await _end(idle.popleft())
                    if not idle and self._idle.get(peer) is idle:
                        del self._idle[peer]
        finally:
            self._is_closing = False


async def _end(on: _Open) -> None:
    await end_stream(on.stream, politely=True)


def left_ms(deadline: float) -> U32:
    """Time to a deadline on trio's clock, as it travels; at least 1 ms."""
    return U32(max(1, math.ceil((deadline - trio.current_time()) * 1000)))


def decode_response(data: bytes, size_max: int) -> ResponseFrame:
    """A response frame; raises DecodeError and FrameBroken."""
    response = record.from_bytes(ResponseFrame, data, size_max=size_max)
    if not is_well_formed(response):
        raise FrameBroken("a response with none or several of payload, error and elsewhere")
    return response
