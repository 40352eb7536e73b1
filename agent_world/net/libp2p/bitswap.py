"""A bitswap server: other IPFS implementations have blocks by their CIDs from this node (protocols/bitswap).

The library has a module for it, a client first of all: it does not know BLAKE3, holds wantlists and answers of any
number, blames nobody and refuses blocks above 512 KiB. Here everything that a peer may cause is bounded. Wants come on
streams that the peer has opened; answers go on one stream to it, as the specification asks.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final

import attrs
import trio

from agent_world.errors import DecodeError, Refused
from agent_world.net.counters import Counters
from agent_world.net.gate import WAIT_S_MIN
from agent_world.net.interface import BlockSource
from agent_world.net.libp2p.host import Host, our_id
from agent_world.net.libp2p.streams import FrameBroken, FrameReader, StreamLost, end_stream, framed, write_bytes
from agent_world.net.rates import Rate, RateClass, TokenBucket
from agent_world.net.reputation import Offence
from agent_world.wire.bitswap import Presence, Want, block_field, open_message, presence_field
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import BITSWAP_MESSAGE_BYTES_MAX, BITSWAP_WANTS_MAX, KIB

log: Final = logging.getLogger(__name__)

PROTOCOLS: Final = ("/ipfs/bitswap/1.2.0", "/ipfs/bitswap/1.1.0")
"""Not 1.0.0: it names blocks by SHA-256 only."""
STREAMS_PER_PEER_MAX: Final = 64
"""Inbound streams of one peer. Kubo keeps one; Helia opens one for every message, up to 50 at a time, and does not
repeat what was in one that is reset."""
STREAMS_MAX: Final = 256
"""Inbound streams of all peers; each may hold one message."""
ANSWERS_AT_ONCE_MAX: Final = 16
"""Answers that are being made or written; each holds at most ANSWER_BYTES and one block."""
ANSWER_BYTES: Final = 512 * KIB
"""An answer ends once its blocks have so many bytes; go-bitswap's have 16 KiB, a stream here costs more a message."""
ANSWER_MAX_S: Final = 30.0
"""Time to take one answer; who does not loses the stream, and what it has wanted."""
OPEN_MAX_S: Final = 10.0
"""Time to open the stream for answers."""
LOOKS_AT_ONCE: Final = 64
"""Wants without a block between two chances for other tasks."""
IDLE_S: Final = 30.0
"""The stream for answers is closed when nothing was wanted for so long."""
_NAME: Final = "bitswap"


@attrs.define(slots=True, eq=False)
class _Asker:
    """A peer that wants something: what waits to be answered, in order."""

    peer: PeerId
    protocol: str
    """The one of its newest stream."""
    wants: OrderedDict[bytes, Want] = attrs.Factory(OrderedDict)
    more: trio.Event = attrs.Factory(trio.Event)
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)

    @property
    def knows_presence(self) -> bool:
        """Whether it can be told what is not here."""
        return self.protocol == PROTOCOLS[0]


class BitswapServer:
    """Of one host; ``start`` runs a task in a nursery that outlives it."""

    def __init__(
        self, host: Host, source: BlockSource, bytes_per_s: float, counters: Counters, start: Callable[..., None]
    ) -> None:
        self._host = host
        self._source = source
        self._counters = counters
        self._start = start
        self._gate = host.gate
        self._askers: dict[PeerId, _Asker] = {}
        self._streams: Counter[PeerId] = Counter()
        self._slots = trio.Semaphore(ANSWERS_AT_ONCE_MAX)
        self._line = TokenBucket(Rate(bytes_per_s, bytes_per_s), trio.current_time())
        for protocol in PROTOCOLS:
            self._take_streams(protocol)

    def _take_streams(self, protocol: str) -> None:
        async def take(stream: Any) -> None:
            await self._take(protocol, stream)

        self._host.on_stream(protocol, take)

    def forget(self, peer: PeerId) -> None:
        """The last connection to this peer has ended."""
        asker = self._askers.pop(peer, None)
        if asker is not None:
            asker.scope.cancel()

    async def _take(self, protocol: str, stream: Any) -> None:
        peer = our_id(stream.muxed_conn.peer_id)
        if self._streams[peer] >= STREAMS_PER_PEER_MAX or self._streams.total() >= STREAMS_MAX:
            self._counters.add("bitswap_stream_limit")
            await end_stream(stream, politely=False)
            return
        self._streams[peer] += 1
        politely = False
        try:
            politely = await self._read(peer, protocol, stream)
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]
            await end_stream(stream, politely=politely)

    async def _read(self, peer: PeerId, protocol: str, stream: Any) -> bool:
        """Take the wants of one stream; True at its end in good order."""
        reader = FrameReader(stream)
        try:
            while (data := await reader.next(BITSWAP_MESSAGE_BYTES_MAX)) is not None:
                await self._gate.slow_down(peer, RateClass.CONTENT, len(data))
                self._gate.traffic.received(peer, "channel", _NAME, len(data))
                self._counters.add("bitswap_message")
                self._wanted(peer, protocol, data)
        except StreamLost as error:
            log.debug("bitswap of %s: %s", peer, error)
            return False
        except FrameBroken as error:
            self._broken(peer, Offence.BROKEN_FRAMING, error)
            return False
        except DecodeError as error:
            self._broken(peer, Offence.GARBAGE, error)
            return False
        return True

    def _broken(self, peer: PeerId, offence: Offence, error: Exception) -> None:
        self._counters.add("bitswap_bad_message")
        self._gate.blame(peer, offence)
        log.warning("%s broke bitswap: %s", peer, error)

    def _wanted(self, peer: PeerId, protocol: str, data: bytes) -> None:
        """Note what a message wants; raises DecodeError."""
        message = open_message(data)
        # [REJECT] X4: nobody sends what was not asked for, and this node asks nobody by bitswap.
        if message.blocks:
            self._counters.add("bitswap_unasked", message.blocks)
            self._gate.blame(peer, Offence.WRONG_BYTES)
        self._counters.add("bitswap_want_dropped", message.dropped)
        asker = self._askers.get(peer)
        if asker is None:
            if not any(not want.cancel for want in message.wants):
                return
            asker = self._askers[peer] = _Asker(peer, protocol)
            self._start(self._answer_all, asker)
        asker.protocol = protocol
        if message.full:
            asker.wants.clear()
        # Higher priorities first, as far as one message goes; what came before is nearly always on its way.
        for want in sorted(message.wants, key=lambda want: -want.priority):
            if want.cancel:
                asker.wants.pop(want.cid, None)
            # [IGNORE] X3: what one peer wants at a time is bounded; it asks again for what it did not get.
            elif len(asker.wants) >= BITSWAP_WANTS_MAX and want.cid not in asker.wants:
                self._counters.add("bitswap_want_dropped")
            else:
                asker.wants[want.cid] = want
        asker.more.set()

    async def _answer_all(self, asker: _Asker) -> None:
        """The one task of an asker: until it wants nothing for a while, or is gone."""
        stream = None
        try:
            with asker.scope:
                while await self._has_more(asker):
                    async with self._slots:
                        answer = await self._made(asker)
                        if not answer:
                            continue
                        stream = stream or await self._opened(asker)
                        with trio.fail_after(ANSWER_MAX_S):
                            await write_bytes(stream, framed(answer))
                    self._gate.traffic.sent(asker.peer, "channel", _NAME, len(answer))
                    # After the slot is given back: who waits for the line keeps nobody else from it.
                    await self._pace(len(answer))
        except (StreamLost, Refused) as error:
            log.debug("bitswap to %s: %s", asker.peer, error)
            self._counters.add("bitswap_answer_lost")
        except trio.TooSlowError:
            self._counters.add("bitswap_slow_reader")
        finally:
            # What waits is lost, as with any stream that breaks; whoever still wants it asks again.
            if self._askers.get(asker.peer) is asker:
                del self._askers[asker.peer]
            if stream is not None:
                await end_stream(stream, politely=not asker.wants)

    async def _has_more(self, asker: _Asker) -> bool:
        if not asker.wants:
            asker.more = trio.Event()
            with trio.move_on_after(IDLE_S):
                await asker.more.wait()
        return bool(asker.wants)

    async def _opened(self, asker: _Asker) -> Any:
        with trio.fail_after(OPEN_MAX_S):
            return await self._host.open_stream(asker.peer, asker.protocol)

    async def _pace(self, size: int) -> None:
        while not self._line.take(size, trio.current_time()):
            self._counters.add("bitswap_waited")
            await trio.sleep(max(WAIT_S_MIN, self._line.wait_s(size, trio.current_time())))

    async def _made(self, asker: _Asker) -> bytes:
        """The next answer; empty if nothing is to be said to the wants that were looked at."""
        parts: list[bytes] = []
        block_bytes = 0
        for number in range(BITSWAP_WANTS_MAX):
            if not asker.wants or block_bytes >= ANSWER_BYTES:
                break
            _cid, want = asker.wants.popitem(last=False)
            block = self._block(want)
            if block is not None:
                parts.append(block_field(want.prefix, block))
                block_bytes += len(block)
                self._counters.add("bitswap_block_sent")
            elif asker.knows_presence:
                parts += self._word(want)
            if block is not None or number % LOOKS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        self._counters.add("bitswap_bytes_sent", block_bytes)
        return b"".join(parts)

    def _block(self, want: Want) -> bytes | None:
        return None if want.only_presence or want.digest is None else self._source.read_block(want.digest)

    def _word(self, want: Want) -> list[bytes]:
        """What is said of a want that gets no block; nothing if the peer did not ask to be told."""
        if want.only_presence and want.digest is not None and self._source.has_block(want.digest):
            self._counters.add("bitswap_have")
            return [presence_field(want.cid, Presence.HAVE)]
        self._counters.add("bitswap_absent")
        return [presence_field(want.cid, Presence.DONT_HAVE)] if want.tell_absence else []
