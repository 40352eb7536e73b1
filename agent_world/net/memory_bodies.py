"""Streamed bodies of the in-memory network: the same promises as over sockets, in virtual time (D8).

The reader grants room for a few parts at a time, and the sender makes the next part only when there is room.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

from agent_world.errors import ErrorCode, Refused
from agent_world.net.answering import check_request_size, payload_of
from agent_world.net.bodies import BODIES_PER_PEER_MAX, BODY_TIME_MAX_S, BodySender, BodyServing
from agent_world.net.counters import Counters
from agent_world.net.gate import Gate
from agent_world.wire.ids import U32, U64, PeerId
from agent_world.wire.rpc import RR_BASE, RequestFrame, ResponseFrame

if TYPE_CHECKING:
    from agent_world.net.memory import InMemoryNetwork

ROOM_PARTS: Final = 4
"""Parts on the way or waiting to be read."""
_CHANNEL: Final = f"{RR_BASE}/parts"

_BROKEN_OFF: Final = object()
_END: Final = object()


@attrs.define(slots=True, eq=False)
class _Asked:
    """A body that this node reads: what has arrived of it, head first."""

    peer: PeerId
    send: trio.MemorySendChannel[object]
    is_broken: bool = False

    def put(self, item: object) -> None:
        if not self.is_broken:  # a connection may come back and break again before the reader looks
            self.is_broken = item is _BROKEN_OFF
            self.send.send_nowait(item)


@attrs.define(slots=True, eq=False)
class _Sent:
    """A body that this node sends."""

    peer: PeerId
    room: trio.Semaphore
    scope: trio.CancelScope


class MemoryBodies:
    """The bodies of one in-memory node; ``start`` runs a task that ends with the node."""

    def __init__(
        self, hub: InMemoryNetwork, own: PeerId, counters: Counters, gate: Gate, start: Callable[..., None]
    ) -> None:
        self._hub = hub
        self._own = own
        self._counters = counters
        self._start = start
        self._numbers = itertools.count(1)
        self._slots: dict[PeerId, trio.Semaphore] = {}
        self._asked: dict[int, _Asked] = {}
        self._sent: dict[tuple[PeerId, int], _Sent] = {}
        self.serving = BodyServing(counters, gate)

    def disconnected(self, peer: PeerId) -> None:
        """The connection broke, and every body on it."""
        self._slots.pop(peer, None)
        for asked in self._asked.values():
            if asked.peer == peer:
                asked.put(_BROKEN_OFF)
        for key in [key for key in self._sent if key[0] == peer]:
            self._sent[key].scope.cancel()

    @asynccontextmanager
    async def open(
        self, peer: PeerId, method: str, payload: bytes, timeout_s: float, part_timeout_s: float | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """As ``interface.DistributedNetwork.open_body``."""
        check_request_size(method, payload)
        if not self._hub.is_connected(self._own, peer):
            raise Refused(ErrorCode.NOT_AVAILABLE, f"not connected to {peer}")
        deadline = trio.current_time() + min(timeout_s, BODY_TIME_MAX_S)
        part_s = part_timeout_s or self._hub.config.request_timeout_s
        slots = self._slots.setdefault(peer, trio.Semaphore(BODIES_PER_PEER_MAX))
        with _in_time(peer, self._counters, deadline):
            await slots.acquire()
        number = next(self._numbers)
        # At most a head, the granted parts, an end and a break can be there at once.
        send, arrived = trio.open_memory_channel[object](ROOM_PARTS + 3)
        self._asked[number] = _Asked(peer, send)
        try:
            if not self._hub.is_connected(self._own, peer):
                raise Refused(ErrorCode.NOT_AVAILABLE, f"the connection to {peer} was lost")
            left_ms = U32(max(1, math.ceil((deadline - trio.current_time()) * 1000)))
            frame = RequestFrame(id=U64(number), method=method, payload=payload, deadline_ms=left_ms)
            self._to(peer, lambda other: other.on_request(self._own, frame))
            head = await self._next(peer, arrived, min(deadline, trio.current_time() + part_s))
            assert isinstance(head, ResponseFrame), "the head comes first"
            payload_of(head)
            self._counters.add("body_asked")
            async with aclosing(self._parts(peer, number, arrived, deadline, part_s)) as parts:
                yield parts
        finally:
            slots.release()
            del self._asked[number]
            # Harmless if the body is complete: the sender knows it no more.
            self._to(peer, lambda other: other.on_left(self._own, number))

    async def _parts(
        self, peer: PeerId, number: int, arrived: trio.MemoryReceiveChannel[object], deadline: float, part_s: float
    ) -> AsyncGenerator[bytes, None]:
        while True:
            part = await self._next(peer, arrived, min(deadline, trio.current_time() + part_s))
            if part is _END:
                return
            assert isinstance(part, bytes), "after the head come parts"
            self._counters.add("body_bytes_received", len(part))
            yield part
            self._to(peer, lambda other: other.on_room(self._own, number))

    async def _next(self, peer: PeerId, arrived: trio.MemoryReceiveChannel[object], deadline: float) -> object:
        with _in_time(peer, self._counters, deadline):
            item = await arrived.receive()
        if item is _BROKEN_OFF:
            self._counters.add("body_lost")
            raise Refused(ErrorCode.NOT_AVAILABLE, f"the body of {peer} broke off")
        return item

    def _to(self, peer: PeerId, action: Callable[[MemoryBodies], None]) -> None:
        """Carry something to the other node's bodies, in order; lost with the connection."""
        if self._hub.is_connected(self._own, peer):
            other = self._hub.node(peer).bodies
            self._hub.stream(self._own, peer, _CHANNEL, lambda: action(other))

    # What arrives at the sending side.

    def on_request(self, peer: PeerId, frame: RequestFrame) -> None:
        """A body is asked for."""
        self._start(self._send, peer, frame)

    def on_room(self, peer: PeerId, number: int) -> None:
        """The reader has taken a part."""
        sent = self._sent.get((peer, number))
        if sent is not None:
            sent.room.release()

    def on_left(self, peer: PeerId, number: int) -> None:
        """The reader wants no more."""
        sent = self._sent.get((peer, number))
        if sent is not None:
            sent.scope.cancel()

    async def _send(self, peer: PeerId, frame: RequestFrame) -> None:
        sent = _Sent(peer, trio.Semaphore(ROOM_PARTS), trio.CancelScope())
        self._sent[peer, frame.id] = sent

        async def head(response: ResponseFrame) -> None:
            await trio.lowlevel.checkpoint()
            self._to(peer, lambda other: other.on_item(frame.id, response))

        async def part(data: bytes) -> None:
            await sent.room.acquire()
            self._to(peer, lambda other: other.on_item(frame.id, data))

        try:
            with sent.scope:
                complete = await self.serving.run(peer, frame, BodySender(head, part))
                last = _END if complete else _BROKEN_OFF
                self._to(peer, lambda other: other.on_item(frame.id, last))
        finally:
            del self._sent[peer, frame.id]

    # What arrives at the reading side.

    def on_item(self, number: int, item: object) -> None:
        """A head, a part or an end; of a body that was left it means nothing any more."""
        asked = self._asked.get(number)
        if asked is not None:
            asked.put(item)


@contextmanager
def _in_time(peer: PeerId, counters: Counters, deadline: float) -> Iterator[None]:
    try:
        with trio.fail_at(deadline):
            yield
    except trio.TooSlowError:
        counters.add("body_timeout")
        raise Refused(ErrorCode.TIMEOUT, f"{peer} sent nothing of a body in time") from None
