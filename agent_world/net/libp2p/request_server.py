"""Answering peers: the serving side of the kept request streams and of the body streams (D7)."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, Final

import attrs
import trio

from agent_world.errors import DecodeError
from agent_world.net.answering import ANSWER_TIME_MAX_S, Answering
from agent_world.net.counters import Counters
from agent_world.net.libp2p.host import Host, our_id
from agent_world.net.libp2p.large_answers import BODY_PROTOCOL
from agent_world.net.libp2p.requests import KEPT_PROTOCOL, write_batches
from agent_world.net.libp2p.single_request import SingleRequests
from agent_world.net.libp2p.streams import FrameBroken, FrameReader, StreamLost, end_stream, framed, write_bytes
from agent_world.net.libp2p.turns import Turns
from agent_world.net.reputation import Offence
from agent_world.wire import record
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import RPC_FRAME_BYTES_MAX, RPC_INLINE_BYTES_MAX
from agent_world.wire.rpc import RequestFrame, ResponseFrame

log: Final = logging.getLogger(__name__)

KEPT_STREAMS_PER_PEER_MAX: Final = 4
"""One is needed; a peer that lost its stream may open the next before we have seen the loss."""
ANSWERS_WAITING_MAX: Final = 1_024
"""Answers that a peer has not read yet on one kept stream; a peer that reads nothing loses its stream."""
BODY_ANSWER_MAX_S: Final = ANSWER_TIME_MAX_S
"""Time to hand over one body; 16 MiB in 60 s is 280 KiB/s."""


class RequestServer:
    """Takes the inbound request streams of one host."""

    def __init__(self, host: Host, answering: Answering, counters: Counters) -> None:
        self._answering = answering
        self._counters = counters
        self._gate = host.gate
        self._kept: Counter[PeerId] = Counter()
        self._single = SingleRequests(host.gate, counters, lost="request_body_lost")
        host.on_stream(KEPT_PROTOCOL, self._serve_kept)
        host.on_stream(BODY_PROTOCOL, self._serve_body)

    async def _serve_kept(self, stream: Any) -> None:
        peer = our_id(stream.muxed_conn.peer_id)
        if self._kept[peer] >= KEPT_STREAMS_PER_PEER_MAX:
            self._counters.add("request_stream_limit")
            await end_stream(stream, politely=False)
            return
        self._kept[peer] += 1
        politely = False
        try:
            async with trio.open_nursery() as nursery:
                politely = await self._read_requests(peer, stream, nursery)
                nursery.cancel_scope.cancel()
        finally:
            self._kept[peer] -= 1
            if not self._kept[peer]:
                del self._kept[peer]
            await end_stream(stream, politely=politely)

    async def _read_requests(self, peer: PeerId, stream: Any, nursery: trio.Nursery) -> bool:
        """Start every request that arrives; True if the peer ended the stream in good order."""
        answers, to_write = trio.open_memory_channel[bytes](ANSWERS_WAITING_MAX)
        nursery.start_soon(self._write_answers, stream, to_write, nursery.cancel_scope)
        reader, turns = FrameReader(stream), Turns()
        active: set[int] = set()
        try:
            while (data := await reader.next(RPC_FRAME_BYTES_MAX)) is not None:
                request = record.from_bytes(RequestFrame, data, size_max=RPC_FRAME_BYTES_MAX)
                if request.id in active:
                    raise FrameBroken("the id of a request that is still in flight")
                active.add(request.id)
                nursery.start_soon(self._answer, _Asked(peer, request, active, answers, nursery.cancel_scope))
                if reader.has_more:
                    await turns.give()
                else:
                    turns.rest()
        except StreamLost as error:
            log.debug("the request stream of %s: %s", peer, error)
            return False
        except (FrameBroken, DecodeError) as error:
            self._counters.add("request_bad_frame")
            self._gate.blame(peer, Offence.BROKEN_FRAMING)
            log.warning("%s broke the request protocol: %s", peer, error)
            return False
        return True

    async def _write_answers(
        self, stream: Any, to_write: trio.MemoryReceiveChannel[bytes], stream_scope: trio.CancelScope
    ) -> None:
        try:
            await write_batches(stream, to_write)
        except StreamLost:
            stream_scope.cancel()

    async def _answer(self, asked: _Asked) -> None:
        response = await self._answering.answer(asked.peer, asked.request)
        asked.active.discard(asked.request.id)
        if response.payload is not None and len(response.payload) > RPC_INLINE_BYTES_MAX:
            response = ResponseFrame(id=response.id, payload=None, error=None, elsewhere=True)
        try:
            asked.answers.send_nowait(framed(record.to_bytes(response)))
        except trio.WouldBlock:
            # A peer that asks and never reads must not fill our memory.
            if not asked.stream_scope.cancel_called:
                self._counters.add("request_slow_reader")
            asked.stream_scope.cancel()

    async def _serve_body(self, stream: Any) -> None:
        async def answer(peer: PeerId, request: RequestFrame) -> bool:
            response = await self._answering.answer(peer, request)
            with trio.fail_after(BODY_ANSWER_MAX_S):
                await write_bytes(stream, framed(*record.to_pieces(response)))
            return True

        await self._single.serve(stream, answer, again=True)


@attrs.frozen(slots=True)
class _Asked:
    """One request of a kept stream and where its answer goes."""

    peer: PeerId
    request: RequestFrame
    active: set[int]
    answers: trio.MemorySendChannel[bytes]
    stream_scope: trio.CancelScope
