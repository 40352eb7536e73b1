"""Which peer to ask for a missing height, how often and when (Gap 3). Pure: time and choices are arguments."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import attrs

from agent_world.wire.ids import PeerId

ATTEMPTS_PER_HEIGHT_MAX: Final = 3
"""Tries for one height before the pause; source: Gap 3."""
PAUSE_MS: Final = 1_000
"""Pause after the tries for a height are used up, before they begin anew."""
BACK_OFF_BASE_MS: Final = 100
"""A peer that failed is left alone this long, twice as long after every further failure."""
BACK_OFF_MAX_MS: Final = 10_000
"""Longest time a failing peer is left alone."""
PEERS_MAX: Final = 1_024
"""Peers whose failures are remembered; the one that failed longest ago is forgotten."""


@attrs.define(slots=True)
class _PeerRecord:
    failures: int = 0
    ready_at_ms: int = 0


class GapPlan:
    """Chooses sources for one height after the other; no peer twice before all that are ready were asked."""

    def __init__(self) -> None:
        self._peers: dict[PeerId, _PeerRecord] = {}
        self._height = 0
        self._attempts = 0
        self._asked: set[PeerId] = set()
        self._paused_until_ms = 0
        self.last_error: str | None = None
        """Last failure, kept until the next success and shown in status."""

    @property
    def attempts(self) -> int:
        """Tries used for the current height."""
        return self._attempts

    def choose(self, height: int, able: Sequence[PeerId], now_ms: int) -> PeerId | None:
        """The peer to ask for ``height`` now, or None: nobody is ready (see ``wake_at_ms``)."""
        if height != self._height:
            self._height, self._attempts, self._paused_until_ms = height, 0, 0
            self._asked.clear()
        if now_ms < self._paused_until_ms:
            return None
        # Only the ready ones count: a peer that is left alone was asked before, and must not hold up the others.
        ready = [peer for peer in able if self._ready_at_ms(peer) <= now_ms]
        if not ready:
            return None
        fresh = [peer for peer in ready if peer not in self._asked]
        if not fresh:
            self._asked.clear()
        chosen = (fresh or ready)[0]
        self._asked.add(chosen)
        return chosen

    def spare(self, able: Sequence[PeerId], busy: Collection[PeerId], now_ms: int) -> PeerId | None:
        """A peer to fetch later heights from meanwhile, which does not count as an attempt; None if none is free."""
        return next((peer for peer in able if peer not in busy and self._ready_at_ms(peer) <= now_ms), None)

    def _ready_at_ms(self, peer: PeerId) -> int:
        record = self._peers.get(peer)
        return 0 if record is None else record.ready_at_ms

    def _record(self, peer: PeerId) -> _PeerRecord:
        """The peer's record, made and moved to the end if need be."""
        record = self._peers.pop(peer) if peer in self._peers else _PeerRecord()
        self._peers[peer] = record
        while len(self._peers) > PEERS_MAX:
            self._peers.pop(next(iter(self._peers)))
        return record

    def wake_at_ms(self, able: Sequence[PeerId], now_ms: int) -> int:
        """When ``choose`` is worth another call."""
        if now_ms < self._paused_until_ms:
            return self._paused_until_ms
        return min(map(self._ready_at_ms, able), default=now_ms + PAUSE_MS)

    def succeeded(self, peer: PeerId) -> None:
        """The peer gave what was asked."""
        self._peers.pop(peer, None)
        self.last_error = None

    def leave_alone(self, peer: PeerId, now_ms: int) -> None:
        """The peer failed at a height that is not due yet: no attempt, but it is left alone as after one."""
        record = self._record(peer)
        record.failures += 1
        pause = min(BACK_OFF_MAX_MS, BACK_OFF_BASE_MS * 2 ** min(record.failures - 1, 16))
        record.ready_at_ms = now_ms + pause

    def failed(self, peer: PeerId, reason: str, now_ms: int) -> None:
        """The peer did not; after the last attempt the height is left alone for a while, never for good."""
        self.leave_alone(peer, now_ms)
        self._attempts += 1
        used_up = self._attempts >= ATTEMPTS_PER_HEIGHT_MAX
        # These words are the reference's; scripts look for them.
        given_up = f" failed after {ATTEMPTS_PER_HEIGHT_MAX} attempts" if used_up else ""
        self.last_error = (
            f"gap sync height {self._height}{given_up}: attempt {self._attempts}/{ATTEMPTS_PER_HEIGHT_MAX} failed,"
            f" peer {peer}: {reason}"
        )
        if used_up:
            self._attempts = 0
            self._paused_until_ms = now_ms + PAUSE_MS

    def missing(self, peer: PeerId, now_ms: int) -> None:
        """The peer does not have the height: not a fault (G3.3), it is asked again later."""
        self._record(peer).ready_at_ms = now_ms + PAUSE_MS
