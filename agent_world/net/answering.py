"""What both networks do with a request that has arrived: limits, deadline, handler, typed error (K-1.1, K-1.3)."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

import trio

from agent_world.errors import AgentWorldError, DecodeError, ErrorCode, LocalError, Refused, RemoteError
from agent_world.net.counters import Counters
from agent_world.net.gate import Gate
from agent_world.net.interface import RequestHandler
from agent_world.net.rates import class_of
from agent_world.net.reputation import Offence
from agent_world.net.traffic import OTHER
from agent_world.wire.ids import U64, PeerId
from agent_world.wire.limits import KIB, RPC_BODY_BYTES_MAX, RPC_FRAME_BYTES_MAX
from agent_world.wire.rpc import ErrorResponse, RequestFrame, ResponseFrame

log: Final = logging.getLogger(__name__)

FRAME_OVERHEAD_BYTES_MAX: Final = 2 * KIB
"""What a frame adds to its payload: keys, a method name, or an error of 500 characters of up to 4 bytes."""
REQUEST_BYTES_MAX: Final = RPC_FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES_MAX
"""Largest payload of one request."""
ANSWER_TIME_MAX_S: Final = 60.0
"""A handler gets no longer than this, whatever deadline the asker names."""
REQUESTS_IN_FLIGHT_MAX: Final = 1_024
"""Requests of all peers together that are being answered; 16 peers at their own limit of 64."""

_PUBLIC_TEXT: Final = {
    ErrorCode.NOT_FOUND: "not found here",
    ErrorCode.BAD_REQUEST: "the request broke a rule",
    ErrorCode.INVALID_HASH: "a content hash does not match",
    ErrorCode.STATE_MISMATCH: "state roots or heights disagree",
    ErrorCode.UNSUPPORTED: "this node does not know the method",
    ErrorCode.UNAUTHORIZED: "not authorised",
    ErrorCode.BUSY: "too many requests in flight",
    ErrorCode.RATE_LIMITED: "too many requests",
    ErrorCode.TIMEOUT: "the answer was not ready in time",
    ErrorCode.NOT_AVAILABLE: "temporarily not available",
}


def failure(request_id: U64, code: ErrorCode, *, rule: str = "") -> ResponseFrame:
    """An error answer with the public text of its code and nothing of our insides."""
    error = ErrorResponse(code=code, message=_PUBLIC_TEXT[code], retryable=code.retryable, rule=rule)
    return ResponseFrame(id=request_id, payload=None, error=error, elsewhere=False)


def payload_of(response: ResponseFrame) -> bytes:
    """The payload; raises Refused as the peer said."""
    if response.error is not None:
        raise response.error.to_refused()
    if response.payload is None:
        raise LocalError("a response that points elsewhere has no payload; ask on a stream of its own")
    return response.payload


def is_well_formed(response: ResponseFrame) -> bool:
    """Exactly one of payload, error and elsewhere is given."""
    return [response.payload is not None, response.error is not None, response.elsewhere].count(True) == 1


def offence_of(error: RemoteError) -> Offence:
    """What a peer did whose request or message raised this."""
    return Offence.GARBAGE if isinstance(error, DecodeError) else Offence.INVALID_MESSAGE


def check_request_size(method: str, payload: bytes) -> None:
    """Raise LocalError for a request that would not fit into its frame."""
    if len(payload) > REQUEST_BYTES_MAX:
        raise LocalError(f"a request of {len(payload)} bytes to {method} is over the limit of {REQUEST_BYTES_MAX}")


class Answering:
    """The methods served and how many requests are being answered; one for each network."""

    def __init__(self, in_flight_per_peer_max: int, counters: Counters, gate: Gate) -> None:
        self._handlers: dict[str, RequestHandler] = {}
        self._in_flight: Counter[PeerId] = Counter()
        self._total = 0
        self._in_flight_per_peer_max = in_flight_per_peer_max
        self._counters = counters
        self._gate = gate

    def serve(self, method: str, handler: RequestHandler) -> None:
        """Register; the last registration wins."""
        self._handlers[method] = handler

    async def answer(self, peer: PeerId, request: RequestFrame) -> ResponseFrame:
        """Run the handler within the request's deadline. Never raises for what a peer or a handler did."""
        handler = self._handlers.get(request.method)
        if not self._gate.admits(peer, class_of(request.method), len(request.payload)):
            # A method of somebody's invention is not counted by its name.
            self._gate.traffic.dropped(peer, "method", OTHER if handler is None else request.method, "rate")
            return failure(request.id, ErrorCode.RATE_LIMITED)
        if handler is None:
            self._counters.add("request_unsupported")
            return failure(request.id, ErrorCode.UNSUPPORTED)
        self._gate.traffic.received(peer, "method", request.method, len(request.payload))
        if self._in_flight[peer] >= self._in_flight_per_peer_max or self._total >= REQUESTS_IN_FLIGHT_MAX:
            self._counters.add("request_busy")
            return failure(request.id, ErrorCode.BUSY)
        self._in_flight[peer] += 1
        self._total += 1
        try:
            return await self._run(handler, peer, request)
        finally:
            self._total -= 1
            self._in_flight[peer] -= 1
            if not self._in_flight[peer]:
                del self._in_flight[peer]

    async def _run(self, handler: RequestHandler, peer: PeerId, request: RequestFrame) -> ResponseFrame:
        self._counters.add("request_served")
        try:
            with trio.fail_after(min(request.deadline_ms / 1000, ANSWER_TIME_MAX_S)):
                payload = await self._handled(handler, peer, request)
        except trio.TooSlowError:
            self._counters.add("request_deadline")
            return failure(request.id, ErrorCode.TIMEOUT)
        if isinstance(payload, ResponseFrame):
            return payload
        if len(payload) > RPC_BODY_BYTES_MAX:
            log.error("an answer of %s is over the limit: %d bytes", request.method, len(payload))
            self._counters.add("request_answer_too_large")
            return failure(request.id, ErrorCode.NOT_AVAILABLE)
        return ResponseFrame(id=request.id, payload=payload, error=None, elsewhere=False)

    async def _handled(self, handler: RequestHandler, peer: PeerId, request: RequestFrame) -> bytes | ResponseFrame:
        try:
            return await handler(peer, request.payload)
        # A handler is foreign code here; whatever it raises, this node goes on serving. Logged and counted below.
        except Exception as error:  # noqa: BLE001
            self._blame(peer, _only_error(error))
            return self._failed(request, error)

    def _blame(self, peer: PeerId, error: Exception) -> None:
        if isinstance(error, RemoteError):
            self._gate.blame(peer, offence_of(error))

    def _failed(self, request: RequestFrame, error: Exception) -> ResponseFrame:
        error = _only_error(error)
        if isinstance(error, Refused):
            return ResponseFrame(id=request.id, payload=None, error=ErrorResponse.of(error), elsewhere=False)
        if isinstance(error, RemoteError):
            return failure(request.id, error.wire_code, rule=error.rule)
        if isinstance(error, AgentWorldError):
            return failure(request.id, error.wire_code)
        log.error("the handler of %s failed", request.method, exc_info=error)
        self._counters.add("request_handler_failed")
        return failure(request.id, ErrorCode.NOT_AVAILABLE)


def _only_error(error: Exception) -> Exception:
    """The one error inside nested groups: a handler that used a nursery raises its error wrapped."""
    inner: object = error
    while isinstance(inner, ExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner if isinstance(inner, Exception) else error
