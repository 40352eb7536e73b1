"""What both networks do with a streamed body: who may have one, its deadlines, its typed end (K-1.1, K-1.3).

A body is the answer to one request in parts, for what is too large or too long for one answer. The reader sets the
pace: a part is made only when there is room for it on the way.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeVar, cast

import trio

from agent_world.errors import AgentWorldError, ErrorCode, LocalError, Refused, RemoteError
from agent_world.net.answering import failure
from agent_world.net.counters import Counters
from agent_world.net.gate import Gate
from agent_world.net.interface import BodyHandler
from agent_world.net.rates import class_of
from agent_world.wire.ids import U64, PeerId
from agent_world.wire.limits import BODY_PART_BYTES_MAX
from agent_world.wire.rpc import ErrorResponse, RequestFrame, ResponseFrame

T = TypeVar("T")

log: Final = logging.getLogger(__name__)

BODIES_PER_PEER_MAX: Final = 4
"""Bodies one peer is sent, and bodies one peer is asked for, at the same time."""
BODIES_MAX: Final = 64
"""Bodies being sent to all peers together; each holds a part or two in memory, 2 MiB at most."""
BODY_TIME_MAX_S: Final = 600.0
"""A whole body, whatever the asker says: a larger one is asked for in several."""
PART_WRITE_MAX_S: Final = 30.0
"""A reader that takes no part for so long loses its body."""


class _Gone(Exception):
    """The reader is gone or too slow; there is nobody to tell."""


class BodySender:
    """How one network hands a body over; the methods raise ``trio.BrokenResourceError`` once the reader is gone."""

    def __init__(
        self, head: Callable[[ResponseFrame], Awaitable[None]], part: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self.head = head
        self.part = part


class BodyServing:
    """The bodies that are served and who is being sent one; one for each network."""

    def __init__(self, counters: Counters, gate: Gate) -> None:
        self._gate = gate
        self._handlers: dict[str, BodyHandler] = {}
        self._in_flight: Counter[PeerId] = Counter()
        self._counters = counters

    def serve(self, method: str, handler: BodyHandler) -> None:
        """Register; the last registration wins."""
        self._handlers[method] = handler

    async def run(self, peer: PeerId, request: RequestFrame, sender: BodySender) -> bool:
        """Send the answer: a head, and its parts if it is not an error. False if it broke off after its head.

        Never raises for what a peer or a handler did.
        """
        refused = self._refuse(peer, request)
        if refused is not None:
            return await self._tell(sender, refused)
        self._in_flight[peer] += 1
        self._counters.add("body_served")
        try:
            with trio.fail_after(min(request.deadline_ms / 1000, BODY_TIME_MAX_S)):
                return await self._send(self._handlers[request.method](peer, request.payload), request.id, sender)
        except trio.TooSlowError:
            self._counters.add("body_deadline")
            return False
        except (_Gone, trio.BrokenResourceError):
            self._counters.add("body_reader_gone")
            return False
        finally:
            self._in_flight[peer] -= 1
            if not self._in_flight[peer]:
                del self._in_flight[peer]

    def _refuse(self, peer: PeerId, request: RequestFrame) -> ResponseFrame | None:
        if request.method not in self._handlers:
            self._counters.add("body_unsupported")
            return failure(request.id, ErrorCode.UNSUPPORTED)
        if not self._gate.admits(peer, class_of(request.method), len(request.payload)):
            self._gate.traffic.dropped(peer, "method", request.method, "rate")
            return failure(request.id, ErrorCode.RATE_LIMITED)
        self._gate.traffic.received(peer, "method", request.method, len(request.payload))
        if self._in_flight[peer] >= BODIES_PER_PEER_MAX or self._in_flight.total() >= BODIES_MAX:
            self._counters.add("body_busy")
            return failure(request.id, ErrorCode.BUSY)
        return None

    async def _tell(self, sender: BodySender, head: ResponseFrame) -> bool:
        try:
            with trio.fail_after(PART_WRITE_MAX_S):
                await sender.head(head)
        except (trio.TooSlowError, trio.BrokenResourceError):
            self._counters.add("body_reader_gone")
            return False
        return True

    async def _send(self, parts: AsyncIterator[bytes], request_id: U64, sender: BodySender) -> bool:
        begun = False
        # A handler is written as an async generator, and one that is left early must be closed here, not by chance.
        async with aclosing(cast("AsyncGenerator[bytes, None]", parts)):
            try:
                part = await anext(parts, None)
                await self._write(sender.head, ResponseFrame(id=request_id, payload=b"", error=None, elsewhere=False))
                begun = True
                while part is not None:
                    if not 1 <= len(part) <= BODY_PART_BYTES_MAX:
                        raise LocalError(f"a part of {len(part)} bytes; 1 to {BODY_PART_BYTES_MAX} are allowed")
                    await self._write(sender.part, part)
                    self._counters.add("body_bytes_sent", len(part))
                    part = await anext(parts, None)
            except (_Gone, trio.BrokenResourceError):
                raise
            # A handler is foreign code here; whatever it raises, this node goes on serving. Logged and counted.
            except Exception as error:  # noqa: BLE001
                return await self._failed(error, request_id, sender, begun=begun)
        return True

    async def _write(self, write: Callable[[T], Awaitable[None]], item: T) -> None:
        with trio.move_on_after(PART_WRITE_MAX_S) as scope:
            await write(item)
        if scope.cancelled_caught:
            raise _Gone

    async def _failed(self, error: Exception, request_id: U64, sender: BodySender, *, begun: bool) -> bool:
        """After the head there is no place for an error any more: the body breaks off."""
        if not isinstance(error, AgentWorldError) or isinstance(error, LocalError):
            log.error("the handler of a body failed", exc_info=error)
            self._counters.add("body_handler_failed")
        if begun:
            self._counters.add("body_broken_off")
            return False
        head = failure(request_id, ErrorCode.NOT_AVAILABLE)
        if isinstance(error, Refused):
            head = ResponseFrame(id=request_id, payload=None, error=ErrorResponse.of(error), elsewhere=False)
        elif isinstance(error, RemoteError):
            head = failure(request_id, error.wire_code, rule=error.rule)
        elif isinstance(error, AgentWorldError):
            head = failure(request_id, error.wire_code)
        return await self._tell(sender, head)
