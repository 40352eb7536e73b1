"""When a consensus message goes by gossip besides the direct links, so that a stalled height does not become a flood.

Gossip costs every node of the swarm 0.5-1 ms a link and message, and a height that stalls for want of computing time
must not take still more of it: each message is repeated at growing intervals, and all together stay below a rate.
"""

from __future__ import annotations

from typing import Final

FIRST_PAUSE_MS: Final = 1_000
"""Between the first and the second time that one message is gossiped; every further pause is twice as long."""
PAUSE_MS_MAX: Final = 16_000
RATE_PER_S: Final = 2
"""Messages a second of one node, in the long run: in a swarm of 20 each costs all nodes together 0.1 s of computing."""
BURST_MAX: Final = 10
"""Messages at once: a round's own ones and what supports a laggard."""


class Rumours:
    """The messages of one height at one node; times are monotonic milliseconds."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[int, int]] = {}
        self._tokens_ms = BURST_MAX * 1000 // RATE_PER_S
        self._at_ms = 0

    def forget(self) -> None:
        """A new height: none of its messages has been sent."""
        self._seen.clear()

    def is_due(self, data: bytes, now_ms: int, *, enough_linked: bool) -> bool:
        """Whether to gossip now what is being sent directly; with ``enough_linked``, when the
        direct links reach a quorum, not at its first time."""
        self._tokens_ms = min(BURST_MAX * 1000 // RATE_PER_S, self._tokens_ms + max(0, now_ms - self._at_ms))
        self._at_ms = now_ms
        known = self._seen.get(data)
        if known is None and enough_linked:
            self._seen[data] = (now_ms, FIRST_PAUSE_MS)
            return False
        next_ms, pause_ms = known or (now_ms, FIRST_PAUSE_MS)
        if now_ms < next_ms or self._tokens_ms < 1000 // RATE_PER_S:
            return False
        self._tokens_ms -= 1000 // RATE_PER_S
        self._seen[data] = (now_ms + pause_ms, min(2 * pause_ms, PAUSE_MS_MAX))
        return True
