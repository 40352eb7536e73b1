"""How well a neighbour's gossip has been, topic by topic, forgotten with time. Pure: time is an argument.

After peer scoring of gossipsub 1.1: P2 (first deliveries, with a cap) and P4 (invalid messages, squared). The library's
own counters of both cannot be used: it takes a message that was merely stale for an invalid one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import attrs

from agent_world.wire.ids import PeerId

FIRST_WEIGHT: Final = 0.1
FIRST_CAP: Final = 100.0
"""First deliveries count up to here, so that nobody earns the right to send much that is wrong."""
FIRST_HALF_LIFE_S: Final = 60.0
INVALID_WEIGHT: Final = -1.0
"""Of the square of a topic's invalid messages."""
INVALID_HALF_LIFE_S: Final = 120.0
INVALID_CAP: Final = 100.0
"""An offender's standing comes back within minutes, whatever it sent."""

GOSSIP_THRESHOLD: Final = -16.0
"""Below it a neighbour is told no more of what is there; about four invalid messages lately."""
PUBLISH_THRESHOLD: Final = -36.0
"""Below it nothing is sent to it."""
GRAYLIST_THRESHOLD: Final = -64.0
"""Below it nothing of what it sends is looked at; about eight invalid messages lately."""
PEERS_MAX: Final = 1_024
"""Neighbours remembered, also after they are gone; the one heard of longest ago is forgotten."""
TOPICS_MAX: Final = 32
"""Topics told apart for one neighbour; the others count together."""


@attrs.define(slots=True)
class _Count:
    """Messages of one neighbour on one topic, decayed to ``at_s``."""

    at_s: float
    first: float = 0.0
    invalid: float = 0.0

    def decay(self, now_s: float) -> None:
        passed_s = max(0.0, now_s - self.at_s)
        self.first *= 0.5 ** (passed_s / FIRST_HALF_LIFE_S)
        self.invalid *= 0.5 ** (passed_s / INVALID_HALF_LIFE_S)
        self.at_s = now_s

    @property
    def score(self) -> float:
        return FIRST_WEIGHT * min(self.first, FIRST_CAP) + INVALID_WEIGHT * self.invalid**2


class GossipScores:
    """The neighbours of one node; times are monotonic seconds."""

    def __init__(self) -> None:
        self._peers: OrderedDict[PeerId, dict[str, _Count]] = OrderedDict()

    def delivered_first(self, peer: PeerId, topic: str, now_s: float) -> None:
        """The neighbour brought a good message that was new here."""
        count = self._count(peer, topic, now_s)
        count.first = min(FIRST_CAP, count.first + 1)

    def invalid(self, peer: PeerId, topic: str, now_s: float) -> None:
        """The neighbour brought a message that no honest node forwards."""
        count = self._count(peer, topic, now_s)
        count.invalid = min(INVALID_CAP, count.invalid + 1)

    def score(self, peer: PeerId, now_s: float) -> float:
        """Sum over the topics; 0 for a stranger."""
        counts = self._peers.get(peer)
        if counts is None:
            return 0.0
        for count in counts.values():
            count.decay(now_s)
        return sum(count.score for count in counts.values())

    def is_graylisted(self, peer: PeerId, now_s: float) -> bool:
        """Whether nothing of this neighbour is to be looked at."""
        return peer in self._peers and self.score(peer, now_s) < GRAYLIST_THRESHOLD

    def _count(self, peer: PeerId, topic: str, now_s: float) -> _Count:
        counts = self._peers.setdefault(peer, {})
        self._peers.move_to_end(peer)
        while len(self._peers) > PEERS_MAX:
            self._peers.popitem(last=False)
        if topic not in counts and len(counts) >= TOPICS_MAX:
            topic = ""
        count = counts.setdefault(topic, _Count(now_s))
        count.decay(now_s)
        return count
