"""The iterative lookup of Kademlia: ask the nearest known peers, hear of nearer ones, until the nearest have answered.

The library's own lookups return nothing when their time is over, do not say whether anybody answered, and begin with
the copy of an earlier answer. This one keeps what it has and tells the cases apart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import Enum
from typing import Final, Generic, TypeVar

import attrs
import trio

P = TypeVar("P")

NEAREST: Final = 20
"""Peers that hold a record, and that a lookup must have heard; k of the Kademlia paper."""
ASKED_AT_ONCE: Final = 6
"""Peers of one lookup that are asked at the same time; a holder serves 12 streams at once."""
CANDIDATES_MAX: Final = 1_024
"""Peers that one lookup remembers; the farthest are dropped, so that answers cannot fill the memory."""


class _State(Enum):
    NEW = 1
    ASKED = 2
    ANSWERED = 3
    FAILED = 4


@attrs.frozen(slots=True)
class Lookup(Generic[P]):
    """How a lookup ended."""

    nearest: tuple[P, ...]
    """Peers that answered, nearest first; at most NEAREST."""
    answered: int
    failed: int
    complete: bool
    """All of the nearest known peers have answered or failed; otherwise time ran out or enough was found."""


class _Search(Generic[P]):
    def __init__(self, distance: Callable[[P], int], enough: Callable[[], bool]) -> None:
        self._distance = distance
        self._enough = enough
        self.states: dict[P, _State] = {}
        self.order: list[P] = []
        self.changed = trio.Event()

    def hear(self, peers: Iterable[P]) -> None:
        new = [peer for peer in dict.fromkeys(peers) if peer not in self.states]
        if not new:
            return
        self.states.update(dict.fromkeys(new, _State.NEW))
        self.order = sorted([*self.order, *new], key=self._distance)
        for peer in self.order[CANDIDATES_MAX:]:
            del self.states[peer]
        del self.order[CANDIDATES_MAX:]

    def settle(self, peer: P, state: _State) -> None:
        if peer in self.states:
            self.states[peer] = state
        self.changed.set()

    def due(self) -> list[P]:
        """Who is to be asked next; empty when all of the nearest that can answer have been asked."""
        if self._enough():
            return []
        nearest = [peer for peer in self.order if self.states[peer] is not _State.FAILED][:NEAREST]
        return [peer for peer in nearest if self.states[peer] is _State.NEW]

    def count(self, state: _State) -> int:
        return sum(known is state for known in self.states.values())


async def look_up(
    start: Sequence[P],
    ask: Callable[[P], Awaitable[Sequence[P] | None]],
    distance: Callable[[P], int],
    *,
    timeout_s: float,
    enough: Callable[[], bool] = lambda: False,
) -> Lookup[P]:
    """Ask from ``start`` on, at most ``timeout_s`` in all; never raises for what peers do.

    ``ask`` gives the peers that a peer named as nearer, or None if it did not answer, and must itself end in bounded
    time; it keeps whatever else was in the answer. ``distance`` orders peers by nearness to what is looked for.
    ``enough`` ends the search early.
    """
    search: _Search[P] = _Search(distance, enough)
    search.hear(start)
    finished = False

    async def ask_one(peer: P) -> None:
        closer = await ask(peer)
        search.hear(closer or ())
        search.settle(peer, _State.FAILED if closer is None else _State.ANSWERED)

    with trio.move_on_after(timeout_s):
        async with trio.open_nursery() as nursery:
            while True:
                asked = search.count(_State.ASKED)
                due = search.due()
                if not due and (not asked or enough()):
                    break
                for peer in due[: ASKED_AT_ONCE - asked]:
                    search.states[peer] = _State.ASKED
                    nursery.start_soon(ask_one, peer)
                search.changed = trio.Event()
                await search.changed.wait()
            finished = not enough()
            nursery.cancel_scope.cancel()
    answered = [peer for peer in search.order if search.states[peer] is _State.ANSWERED]
    return Lookup(
        nearest=tuple(answered[:NEAREST]),
        answered=len(answered),
        failed=search.count(_State.FAILED),
        complete=finished,
    )
