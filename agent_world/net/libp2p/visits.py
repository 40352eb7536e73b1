"""Connections that only look-ups of the DHT need: made to ask somebody, closed soon after the last question.

A visit is no link: it is told to nobody as a connected peer, and nobody sends a hello over it. It becomes a link when
anything else than the DHT uses it, when this node is told to keep the peer, or when gossip would be too thin without.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs
import trio

from agent_world.net.counters import Counters
from agent_world.wire.ids import PeerId

log: Final = logging.getLogger(__name__)

LINGER_S: Final = 2.0
"""After the last question; making a connection costs 15-25 ms, and a put or a provide asks the same peers twice."""
VISITS_MAX: Final = 32
"""Open at a time, above the 20 peers nearest to a key; the one used longest ago is closed first."""
LOOK_EVERY_S: Final = 0.5


@attrs.define(slots=True)
class _Visit:
    connection: Any
    used_s: float


class Visits:
    """The visits of one host. ``Connections`` tells it of connections, ``KadClient`` of questions."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._asked: Counter[PeerId] = Counter()
        self._open: OrderedDict[PeerId, _Visit] = OrderedDict()
        self._crowded = trio.Event()
        self.is_needed: Callable[[PeerId], bool] = lambda _peer: False
        """Whether gossip would be too thin without this peer."""
        self.became_link: Callable[[PeerId, Any], None] = lambda _peer, _connection: None
        """Told of a visit that is a link from now on, with its connection."""

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def asking(self, peer: PeerId) -> Iterator[None]:
        """While a question to the peer is under way: a connection that is made now is a visit and stays."""
        self._asked[peer] += 1
        try:
            yield
        finally:
            self._asked[peer] -= 1
            if not self._asked[peer]:
                del self._asked[peer]
            visit = self._open.get(peer)
            if visit is not None:
                visit.used_s = trio.current_time()
                self._open.move_to_end(peer)
            if len(self._open) > VISITS_MAX:
                self._crowded.set()

    def takes(self, peer: PeerId, connection: Any) -> bool:
        """Whether a connection that this node has made is a visit; from now on it is looked after here."""
        if not self._asked[peer] or peer in self._open:
            return False
        self._open[peer] = _Visit(connection, trio.current_time())
        self._counters.add("visit_made")
        return True

    def is_visit(self, connection: Any) -> bool:
        """Whether nobody but the DHT uses this connection."""
        return any(visit.connection is connection for visit in self._open.values())

    def used(self, peer: PeerId) -> None:
        """Somebody else than the DHT uses or wants the peer: what was a visit is a link."""
        visit = self._open.pop(peer, None)
        if visit is not None:
            self._counters.add("visit_became_link")
            self.became_link(peer, visit.connection)

    def ended(self, peer: PeerId, connection: Any) -> bool:
        """A connection has ended; whether it was a visit."""
        visit = self._open.get(peer)
        if visit is None or visit.connection is not connection:
            return False
        del self._open[peer]
        self._counters.add("visit_ended")
        return True

    async def run(self) -> None:
        """Until cancelled: close what nobody has used for LINGER_S, and the oldest above VISITS_MAX."""
        while True:
            self._crowded = trio.Event()
            async with trio.open_nursery() as nursery:
                for peer, visit in self._over():
                    if self.is_needed(peer):
                        self.used(peer)
                    else:
                        nursery.start_soon(visit.connection.close)
            with trio.move_on_after(LOOK_EVERY_S):
                await self._crowded.wait()

    def _over(self) -> list[tuple[PeerId, _Visit]]:
        idle = [(peer, visit) for peer, visit in self._open.items() if not self._asked[peer]]
        surplus = max(0, len(self._open) - VISITS_MAX)
        now_s = trio.current_time()
        return [
            (peer, visit)
            for number, (peer, visit) in enumerate(idle)
            if number < surplus or now_s - visit.used_s >= LINGER_S
        ]
