"""Asking one peer: requests multiplexed by id on one kept stream, large answers on a stream of their own (D7)."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from agent_world.config import NetConfig
from agent_world.errors import DecodeError, ErrorCode, Refused
from agent_world.net.answering import check_request_size, payload_of
from agent_world.net.counters import Counters
from agent_world.net.libp2p.host import Host
from agent_world.net.libp2p.large_answers import LargeAnswers, decode_response, left_ms
from agent_world.net.libp2p.streams import FrameBroken, FrameReader, StreamLost, end_stream, framed, write_bytes
from agent_world.net.libp2p.turns import Turns
from agent_world.net.rates import class_of
from agent_world.net.reputation import Offence
from agent_world.wire import record
from agent_world.wire.ids import U32, U64, PeerId
from agent_world.wire.limits import KIB, RPC_FRAME_BYTES_MAX
from agent_world.wire.rpc import RR_BASE, RequestFrame, ResponseFrame

log: Final = logging.getLogger(__name__)

KEPT_PROTOCOL: Final = RR_BASE
"""Kept stream: request frames one way, response frames the other, in any order."""
BATCH_BYTES_MAX: Final = 64 * KIB
"""Frames that wait together are written together up to this."""
LARGE_METHODS_MAX: Final = 256
"""Methods remembered, for each peer, as answering with large bodies."""


@attrs.define(slots=True)
class _Pending:
    """A request in flight on the kept stream."""

    done: trio.Event
    response: ResponseFrame | None = None


@attrs.define(slots=True)
class PeerLoad:
    """How much a peer was asked, and how fast it answered last."""

    requests: int = 0
    latency_ms: float | None = None


async def no_pace(_size: int) -> None:
    """For what was paced before, or goes out as fast as it is asked for."""


async def write_batches(
    stream: Any, frames: trio.MemoryReceiveChannel[bytes], pace: Callable[[int], Awaitable[None]] = no_pace
) -> None:
    """Write whatever waits, several small frames at once; ends with the channel, raises StreamLost.

    ``pace`` is waited for before every frame, with its size.
    """
    async for frame in frames:
        await pace(len(frame))
        batch = [frame]
        size = len(frame)
        while size < BATCH_BYTES_MAX:
            try:
                batch.append(frames.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            await pace(len(batch[-1]))
            size += len(batch[-1])
        await write_bytes(stream, b"".join(batch))


class _Line:
    """The kept stream to one peer, from its opening to its loss; a lost line is replaced by a new one."""

    def __init__(self, requests: Requests, peer: PeerId) -> None:
        self.peer = peer
        self._requests = requests
        self._pending: dict[int, _Pending] = {}
        self._numbers = itertools.count(1)
        self._lost = Refused(ErrorCode.NOT_AVAILABLE, f"the stream to {peer} was lost")
        in_flight_max = requests.config.requests_in_flight_per_peer_max
        self._frames, self._to_write = trio.open_memory_channel[bytes](in_flight_max)
        self.is_open = True

    async def ask(self, method: str, payload: bytes, deadline_ms: U32) -> ResponseFrame:
        """Send and wait; the caller brings the deadline. Raises Refused if the line is lost."""
        number = U64(next(self._numbers))
        frame = RequestFrame(id=number, method=method, payload=payload, deadline_ms=deadline_ms)
        pending = self._pending[number] = _Pending(trio.Event())
        try:
            await self._frames.send(framed(record.to_bytes(frame)))
            await pending.done.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._lost from None
        finally:
            del self._pending[number]
        if pending.response is None:
            raise self._lost
        return pending.response

    async def run(self) -> None:
        """Open, write and read until the stream is gone; then fail what is in flight."""
        stream = None
        try:
            with trio.fail_after(self._requests.config.dial_timeout_s):
                stream = await self._requests.host.open_stream(self.peer, KEPT_PROTOCOL)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream, nursery.cancel_scope)
                await self._read(stream)
                nursery.cancel_scope.cancel()
        except Refused as error:
            self._lost = error
        except trio.TooSlowError:
            self._lost = Refused(ErrorCode.NOT_AVAILABLE, f"{self.peer} opened no stream in time")
        finally:
            self.is_open = False
            self._frames.close()
            self._to_write.close()
            for pending in self._pending.values():
                pending.done.set()
            if stream is not None:
                await end_stream(stream, politely=False)

    async def _write(self, stream: Any, line_scope: trio.CancelScope) -> None:
        try:
            await write_batches(stream, self._to_write)
        except StreamLost:
            line_scope.cancel()

    async def _read(self, stream: Any) -> None:
        reader, turns = FrameReader(stream), Turns()
        try:
            while (data := await reader.next(RPC_FRAME_BYTES_MAX)) is not None:
                self._take(decode_response(data, RPC_FRAME_BYTES_MAX))
                if reader.has_more:
                    await turns.give()
                else:
                    turns.rest()
        except StreamLost as error:
            log.debug("the request stream to %s: %s", self.peer, error)
        except (FrameBroken, DecodeError) as error:
            self._requests.counters.add("request_bad_frame")
            self._requests.gate.blame(self.peer, Offence.BROKEN_FRAMING)
            log.warning("%s broke the request protocol: %s", self.peer, error)

    def _take(self, response: ResponseFrame) -> None:
        pending = self._pending.get(response.id)
        if pending is None:
            self._requests.counters.add("request_late_answer")
            return
        pending.response = response
        pending.done.set()


class Requests:
    """The asking side of one network; ``start`` runs a task in a nursery that outlives every request."""

    def __init__(self, host: Host, config: NetConfig, counters: Counters, start: Callable[..., None]) -> None:
        self.gate = host.gate
        self.host = host
        self.config = config
        self.counters = counters
        self._start = start
        self._lines: dict[PeerId, _Line] = {}
        self._slots: dict[PeerId, trio.Semaphore] = {}
        self._large: dict[PeerId, set[str]] = {}
        self._large_answers = LargeAnswers(host, counters, start)
        self.load: dict[PeerId, PeerLoad] = {}

    async def request(self, peer: PeerId, method: str, payload: bytes, timeout_s: float) -> bytes:
        """Ask one peer and nobody else; raises Refused with the peer's code, ERR_TIMEOUT or ERR_NOT_AVAILABLE.

        Above the in-flight limit a request waits for its turn within its deadline.
        """
        check_request_size(method, payload)
        if not self.host.is_connected(peer):
            self.counters.add("request_not_connected")
            raise Refused(ErrorCode.NOT_AVAILABLE, f"not connected to {peer}")
        load = self.load.setdefault(peer, PeerLoad())
        load.requests += 1
        self.counters.add("request_sent")
        started = trio.current_time()
        try:
            with trio.fail_after(timeout_s):
                await self.gate.pace(peer, class_of(method), len(payload))
                self.gate.traffic.sent(peer, "method", method, len(payload))
                response = await self._ask(peer, method, payload, started + timeout_s)
        except trio.TooSlowError:
            self.counters.add("request_timeout")
            raise Refused(ErrorCode.TIMEOUT, f"{peer} did not answer {method} within {timeout_s} s") from None
        load.latency_ms = (trio.current_time() - started) * 1000
        for flow in (self.gate.traffic.peer(peer), self.gate.traffic.named("method", method)):
            flow.answered(load.latency_ms)
        return payload_of(response)

    def forget(self, peer: PeerId) -> None:
        """The last connection to this peer has ended."""
        for known in (self._slots, self._large, self.load):
            known.pop(peer, None)
        self._large_answers.forget(peer)

    async def _ask(self, peer: PeerId, method: str, payload: bytes, deadline: float) -> ResponseFrame:
        slots = self._slots.setdefault(peer, trio.Semaphore(self.config.requests_in_flight_per_peer_max))
        async with slots:
            large = self._large.setdefault(peer, set())
            if method not in large:
                response = await self._line(peer).ask(method, payload, left_ms(deadline))
                if not response.elsewhere:
                    return response
                if len(large) < LARGE_METHODS_MAX:
                    large.add(method)
            # A method that once had a large answer is asked there at once, until its answer is small again.
            response = await self._large_answers.ask(peer, method, payload, deadline)
            if response.payload is not None and len(response.payload) < RPC_FRAME_BYTES_MAX // 2:
                large.discard(method)
            return response

    def _line(self, peer: PeerId) -> _Line:
        line = self._lines.get(peer)
        if line is None or not line.is_open:
            line = self._lines[peer] = _Line(self, peer)
            self._start(self._run_line, line)
        return line

    async def _run_line(self, line: _Line) -> None:
        try:
            await line.run()
        finally:
            if self._lines.get(line.peer) is line:
                del self._lines[line.peer]
