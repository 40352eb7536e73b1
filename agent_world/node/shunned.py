"""Peers whose hello was broken or foreign, and how long they are left alone. Bookkeeping only."""

from __future__ import annotations

from typing import Final

from agent_world.wire.ids import PeerId

SHUN_MS: Final = 1_000
"""After its first bad hello a peer is not greeted for so long; twice as long after every further one."""
SHUN_MS_MAX: Final = 60_000
"""Longest time a peer is left alone."""
SHUNNED_MAX: Final = 1_024
"""Peers remembered; the one that came first is forgotten."""


class Shunned:
    """A peer that says nonsense and comes back at once is not greeted, judged and dropped many times a second."""

    def __init__(self) -> None:
        self._peers: dict[PeerId, tuple[int, int]] = {}

    def add(self, peer: PeerId, now_ms: int) -> None:
        """The peer's hello was bad."""
        count, _until_ms = self._peers.pop(peer, (0, 0))
        self._peers[peer] = (count + 1, now_ms + min(SHUN_MS_MAX, SHUN_MS << min(count, 16)))
        while len(self._peers) > SHUNNED_MAX:
            self._peers.pop(next(iter(self._peers)))

    def is_shunned(self, peer: PeerId, now_ms: int) -> bool:
        """Whether it is to be left alone now."""
        return now_ms < self._peers.get(peer, (0, 0))[1]

    def forgive(self, peer: PeerId) -> None:
        """Its hello was good."""
        self._peers.pop(peer, None)
