"""Taking requests from a stream that is there for one answer at a time: their frames, their faults, its end."""

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
"""Time for a request frame, the first and each further one; longer than an asker keeps a stream without a question."""


class SingleRequests:
    """Streams of one protocol; ``lost`` is the counter of those that broke off."""

    def __init__(self, gate: Gate, counters: Counters, lost: str) -> None:
        self._gate = gate
        self._counters = counters
        self._lost = lost

    async def serve(
        self, stream: Any, answer: Callable[[PeerId, RequestFrame], Awaitable[bool]], *, again: bool = False
    ) -> None:
        """Read the request, ``answer`` it and end the stream: in good order if that says so, else by a reset.

        With ``again`` the asker may put another request on it after every answer, and ends it itself.
        """
        peer = our_id(stream.muxed_conn.peer_id)
        reader = FrameReader(stream)
        politely = is_idle = False
        try:
            while True:
                with trio.fail_after(REQUEST_WAIT_MAX_S):
                    data = await reader.next(RPC_FRAME_BYTES_MAX)
                is_idle = False
                if data is None:
                    break
                politely = await answer(peer, record.from_bytes(RequestFrame, data, size_max=RPC_FRAME_BYTES_MAX))
                if not (politely and again):
                    break
                is_idle = True
        except (StreamLost, trio.TooSlowError) as error:
            # Between two requests the asker, or this node, has simply no more use for it.
            if not is_idle:
                politely = False
                self._counters.add(self._lost)
            log.debug("a stream of %s for one request: %r", peer, error)
        except (FrameBroken, DecodeError) as error:
            politely = False
            self._counters.add("request_bad_frame")
            self._gate.blame(peer, Offence.BROKEN_FRAMING)
            log.warning("%s broke the request protocol: %s", peer, error)
        finally:
            await end_stream(stream, politely=politely)
