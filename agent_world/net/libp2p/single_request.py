"""Taking the one request of a stream that is there for one answer: its first frame, its faults, its end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from agent_world.errors import DecodeError
from agent_world.net.counters import Counters
from agent_world.net.gate import Gate
from agent_world.net.libp2p.host import our_id
from agent_world.net.libp2p.streams import FrameBroken, FrameReader, StreamLost, end_stream
from agent_world.net.reputation import Offence
from agent_world.wire import record
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import RPC_FRAME_BYTES_MAX
from agent_world.wire.rpc import RequestFrame

log: Final = logging.getLogger(__name__)

REQUEST_WAIT_MAX_S: Final = 10.0
"""Time for the one request frame."""


class SingleRequests:
    """Streams of one protocol; ``lost`` is the counter of those that broke off."""

    def __init__(self, gate: Gate, counters: Counters, lost: str) -> None:
        self._gate = gate
        self._counters = counters
        self._lost = lost

    async def serve(self, stream: Any, answer: Callable[[PeerId, RequestFrame], Awaitable[bool]]) -> None:
        """Read the request, ``answer`` it and end the stream: in good order if that says so, else by a reset."""
        peer = our_id(stream.muxed_conn.peer_id)
        politely = False
        try:
            with trio.fail_after(REQUEST_WAIT_MAX_S):
                data = await FrameReader(stream).next(RPC_FRAME_BYTES_MAX)
            if data is not None:
                politely = await answer(peer, record.from_bytes(RequestFrame, data, size_max=RPC_FRAME_BYTES_MAX))
        except (StreamLost, trio.TooSlowError) as error:
            self._counters.add(self._lost)
            log.debug("a stream of %s for one request: %r", peer, error)
        except (FrameBroken, DecodeError) as error:
            self._counters.add("request_bad_frame")
            self._gate.blame(peer, Offence.BROKEN_FRAMING)
            log.warning("%s broke the request protocol: %s", peer, error)
        finally:
            await end_stream(stream, politely=politely)
