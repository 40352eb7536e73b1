"""Bounded queues that drop their oldest entry: a subscriber's inbox and the feed of peer events (K-1.5)."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Generic, TypeVar

import trio

from agent_world.net.interface import GossipMessage, PeerDown, PeerEvent, PeerUp
from agent_world.wire.ids import PeerId

T = TypeVar("T")

PEER_EVENTS_MAX: Final = 4_096
"""Peer events waiting for one reader; four times the peers a node knows, so only a dead reader loses any."""

IN_A_ROW_MAX: Final = 16
"""Entries that a reader gets before other tasks have their turn."""


class DropOldestQueue(Generic[T]):
    """At most ``size_max`` entries (at least 1); a full queue drops its oldest and calls ``on_drop``."""

    def __init__(self, size_max: int, on_drop: Callable[[], None]) -> None:
        self._entries: deque[T] = deque()
        self._size_max = max(1, size_max)
        self._on_drop = on_drop
        self._readers = trio.lowlevel.ParkingLot()
        self._closed = False
        self._in_a_row = 0

    def put(self, entry: T) -> None:
        """Append; never blocks. Ignored after ``close``."""
        if self._closed:
            return
        self._entries.append(entry)
        while len(self._entries) > self._size_max:
            self._entries.popleft()
            self._on_drop()
        self._readers.unpark()

    def __len__(self) -> int:
        """Entries waiting."""
        return len(self._entries)

    def drain(self) -> list[T]:
        """All waiting entries, oldest first; empties the queue."""
        waiting = list(self._entries)
        self._entries.clear()
        return waiting

    def close(self) -> None:
        """End every reader once the waiting entries are read."""
        self._closed = True
        self._readers.unpark_all()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW_MAX:
            self._in_a_row = 0
            await trio.lowlevel.checkpoint()
        while not self._entries:
            if self._closed:
                raise StopAsyncIteration
            self._in_a_row = 0
            await self._readers.park()
        return self._entries.popleft()


class Inbox(DropOldestQueue[GossipMessage]):
    """One subscriber's own queue of one topic; satisfies ``interface.Subscription``."""

    def __init__(self, topic: str, size_max: int, on_drop: Callable[[], None]) -> None:
        super().__init__(size_max, on_drop)
        self.topic = topic


class PeerFeed:
    """Who is connected now, and a queue of events for every reader."""

    def __init__(self, on_drop: Callable[[], None]) -> None:
        self.connected: dict[PeerId, PeerUp] = {}
        # Weak: an iterator that nobody holds any more needs no events.
        self._readers: weakref.WeakSet[DropOldestQueue[PeerEvent]] = weakref.WeakSet()
        self._on_drop = on_drop

    def up(self, event: PeerUp) -> None:
        """Tell of the first connection to a peer; a further one is not news."""
        if event.peer in self.connected:
            return
        self.connected[event.peer] = event
        self._tell(event)

    def down(self, peer: PeerId) -> None:
        """Tell that the last connection to a peer has ended."""
        if self.connected.pop(peer, None) is not None:
            self._tell(PeerDown(peer))

    def events(self) -> DropOldestQueue[PeerEvent]:
        """A new reader; it first gets a PeerUp for every peer already connected."""
        queue: DropOldestQueue[PeerEvent] = DropOldestQueue(PEER_EVENTS_MAX, self._on_drop)
        for peer in sorted(self.connected):
            queue.put(self.connected[peer])
        self._readers.add(queue)
        return queue

    def close(self) -> None:
        """End all readers."""
        for queue in list(self._readers):
            queue.close()

    def _tell(self, event: PeerEvent) -> None:
        for queue in list(self._readers):
            queue.put(event)
