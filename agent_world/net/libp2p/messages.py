"""One-way messages: a kept stream for each peer and channel, in order, with bounded queues on both ends (D7)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import attrs
import trio

from agent_world.config import NetConfig
from agent_world.errors import LocalError, Refused, RemoteError
from agent_world.net.answering import offence_of
from agent_world.net.counters import Counters
from agent_world.net.inbox import DropOldestQueue
from agent_world.net.interface import MessageHandler
from agent_world.net.libp2p.host import Host, our_id
from agent_world.net.libp2p.requests import write_batches
from agent_world.net.libp2p.streams import FrameBroken, FrameReader, StreamLost, end_stream, framed
from agent_world.net.rates import RateClass
from agent_world.net.reputation import Offence
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import GOSSIP_BYTES_MAX

log: Final = logging.getLogger(__name__)

MESSAGE_BYTES_MAX: Final = GOSSIP_BYTES_MAX
"""One message; what goes by message may have to go by gossip instead (D7)."""
QUEUED_MESSAGES_MAX: Final = 256
"""Messages waiting for one peer and channel on either end; 25 MiB of the largest."""
STREAMS_PER_PEER_MAX: Final = 4
"""Inbound streams of one peer on one channel; one is needed."""


def protocol_of(channel: str) -> str:
    """Protocol id of a channel, ``/aw/<channel>/1.0.0``."""
    return f"/aw/{channel}/1.0.0"


def check_message_size(channel: str, payload: bytes) -> None:
    """Raise LocalError above MESSAGE_BYTES_MAX."""
    if len(payload) > MESSAGE_BYTES_MAX:
        raise LocalError(f"a message of {len(payload)} bytes on {channel} is over the limit of {MESSAGE_BYTES_MAX}")


@attrs.frozen(slots=True, eq=False)
class _Outgoing:
    """One kept stream as the sender sees it: what waits for it, and how it is ended."""

    frames: trio.MemorySendChannel[bytes]
    scope: trio.CancelScope


class Messages:
    """Sending and taking one-way messages of one host; ``start`` runs a task in a nursery that outlives them."""

    def __init__(self, host: Host, config: NetConfig, counters: Counters, start: Callable[..., None]) -> None:
        self._gate = host.gate
        self._host = host
        self._config = config
        self._counters = counters
        self._start = start
        self._outgoing: dict[tuple[PeerId, str], _Outgoing] = {}
        self._handlers: dict[str, MessageHandler] = {}
        self._incoming: dict[tuple[PeerId, str], int] = {}

    def on_message(self, channel: str, handler: MessageHandler) -> None:
        """Take messages of this channel; the last registration wins."""
        if channel not in self._handlers:

            async def take(stream: Any) -> None:
                await self._take(channel, stream)

            self._host.on_stream(protocol_of(channel), take)
        self._handlers[channel] = handler

    def send(self, peer: PeerId, channel: str, payload: bytes) -> bool:
        """Queue a message; False, counted, if the peer is not connected or its queue is full."""
        check_message_size(channel, payload)
        if not self._host.is_connected(peer):
            self._counters.add("message_not_connected")
            return False
        outgoing = self._outgoing.get((peer, channel))
        if outgoing is None:
            frames, waiting = trio.open_memory_channel[bytes](QUEUED_MESSAGES_MAX)
            outgoing = self._outgoing[peer, channel] = _Outgoing(frames, trio.CancelScope())
            self._start(self._run, peer, channel, outgoing, waiting)
        try:
            outgoing.frames.send_nowait(framed(payload))
            self._gate.traffic.sent(peer, "channel", channel, len(payload))
        except trio.WouldBlock:
            self._counters.add("message_queue_full")
            return False
        self._counters.add("message_sent")
        return True

    def forget(self, peer: PeerId) -> None:
        """The last connection to this peer has ended, or a new one has taken its place."""
        for key in [key for key in self._outgoing if key[0] == peer]:
            self._outgoing.pop(key).scope.cancel()

    async def _run(
        self, peer: PeerId, channel: str, outgoing: _Outgoing, waiting: trio.MemoryReceiveChannel[bytes]
    ) -> None:
        stream = None
        try:
            with outgoing.scope:
                with trio.fail_after(self._config.dial_timeout_s):
                    stream = await self._host.open_stream(peer, protocol_of(channel))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, peer, stream, waiting, nursery.cancel_scope)
                    await self._read_nothing(peer, channel, stream)
                    nursery.cancel_scope.cancel()
        except (Refused, trio.TooSlowError) as error:
            log.debug("messages on %s to %s: %r", channel, peer, error)
        finally:
            # The next message opens the stream anew; what waits here is lost, as on any broken connection.
            if self._outgoing.get((peer, channel)) is outgoing:
                del self._outgoing[peer, channel]
            lost = waiting.statistics().current_buffer_used
            self._counters.add("message_lost", lost)
            waiting.close()
            if stream is not None:
                await end_stream(stream, politely=False)

    async def _write(
        self, peer: PeerId, stream: Any, waiting: trio.MemoryReceiveChannel[bytes], stream_scope: trio.CancelScope
    ) -> None:
        with suppress(StreamLost):
            await write_batches(stream, waiting, lambda size: self._gate.pace(peer, RateClass.MESSAGE, size))
        stream_scope.cancel()

    async def _read_nothing(self, peer: PeerId, channel: str, stream: Any) -> None:
        """Until the stream ends: a writer alone notices that with its next message, which is lost then."""
        try:
            if await FrameReader(stream).next(0) is not None:
                raise FrameBroken("an answer to a message")
        except StreamLost as error:
            log.debug("messages on %s to %s: %s", channel, peer, error)
        except FrameBroken as error:
            self._broken(peer, channel, error)

    def _broken(self, peer: PeerId, channel: str, error: FrameBroken) -> None:
        self._counters.add("message_bad_frame")
        self._gate.blame(peer, Offence.BROKEN_FRAMING)
        log.warning("%s broke the framing of %s: %s", peer, channel, error)

    async def _take(self, channel: str, stream: Any) -> None:
        peer = our_id(stream.muxed_conn.peer_id)
        key = (peer, channel)
        if self._incoming.get(key, 0) >= STREAMS_PER_PEER_MAX:
            self._counters.add("message_stream_limit")
            await end_stream(stream, politely=False)
            return
        self._incoming[key] = self._incoming.get(key, 0) + 1
        # A slow handler must not stop the reading: a sender without credit for 5 s loses its stream.
        queue: DropOldestQueue[bytes] = DropOldestQueue(
            QUEUED_MESSAGES_MAX, lambda: self._counters.add("message_inbox_dropped")
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._handle, peer, channel, queue)
                await self._read(peer, channel, stream, queue)
                queue.close()  # what has arrived is still handled
        finally:
            self._incoming[key] -= 1
            if not self._incoming[key]:
                del self._incoming[key]
            await end_stream(stream, politely=False)

    async def _read(self, peer: PeerId, channel: str, stream: Any, queue: DropOldestQueue[bytes]) -> None:
        reader = FrameReader(stream)
        try:
            while (payload := await reader.next(MESSAGE_BYTES_MAX)) is not None:
                if self._gate.admits(peer, RateClass.MESSAGE, len(payload)):
                    self._gate.traffic.received(peer, "channel", channel, len(payload))
                    queue.put(payload)
                    if len(queue) >= QUEUED_MESSAGES_MAX // 2:
                        # One read may bring hundreds of small messages: a quick handler gets its turn among them.
                        await trio.lowlevel.checkpoint()
                else:
                    self._gate.traffic.dropped(peer, "channel", channel, "rate")
        except StreamLost as error:
            log.debug("messages on %s: %s", channel, error)
        except FrameBroken as error:
            self._broken(peer, channel, error)

    async def _handle(self, peer: PeerId, channel: str, queue: DropOldestQueue[bytes]) -> None:
        async for payload in queue:
            try:
                await self._handlers[channel](peer, payload)
                self._counters.add("message_received")
            except RemoteError as error:
                log.debug("message of %s on %s: %s", peer, channel, error)
                self._counters.add("message_bad")
                self._gate.blame(peer, offence_of(error))
            # A handler is foreign code here; one bad message must not end the channel. Logged and counted.
            except Exception:
                log.exception("the handler of channel %s failed", channel)
                self._counters.add("message_handler_failed")
