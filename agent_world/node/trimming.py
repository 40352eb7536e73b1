"""Which peers are let go when there are too many. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from agent_world.wire.ids import PeerId


@attrs.frozen(slots=True, kw_only=True)
class Candidate:
    """One connected peer as the choice sees it."""

    peer: PeerId
    is_kept: bool
    """A validator, a peer named by the operator or a dial of this node's own: never let go."""
    is_greeted: bool
    """It has proved to be of this world."""
    score: float
    """0 without faults, negative else."""
    served: int
    """Requests it was asked."""
    connected_s: float


def surplus(candidates: Iterable[Candidate], *, above: int, down_to: int) -> tuple[PeerId, ...]:
    """Above ``above`` peers: the least useful ones beyond ``down_to``, the worst first; else none.

    Strangers go before peers of this world, then the lower score, the one asked less, the one connected last: a crowd
    that arrives at once does not push out who was there before.
    """
    peers = list(candidates)
    if len(peers) <= above:
        return ()
    free = sorted(
        (candidate for candidate in peers if not candidate.is_kept),
        key=lambda item: (item.is_greeted, item.score, item.served, item.connected_s, item.peer),
    )
    return tuple(candidate.peer for candidate in free[: len(peers) - down_to])
