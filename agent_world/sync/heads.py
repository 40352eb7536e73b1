"""Which heights other nodes are at: claims for people, certified heads for decisions (A20).

Behind is only what a verified certificate proves (D5); a claim is a reason to ask for the proof.
"""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.crypto.hashing import hash32
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import PeerId

PEERS_MAX: Final = 1_024
"""Peers whose heads are remembered; the one told longest ago is dropped."""


@attrs.frozen(slots=True)
class PeerHead:
    """What one peer says of its head, and the highest height it has proved."""

    head: WorldHead
    certified_height: int
    told_at_ms: int


class HeadTracker:
    """Keeps the heads of peers; pure bookkeeping."""

    def __init__(self) -> None:
        self._heads: dict[PeerId, PeerHead] = {}
        self._highest = 0

    @property
    def network_committed_height(self) -> int:
        """The highest height that any certificate seen here proves; never falls."""
        return self._highest

    def heads(self) -> dict[PeerId, PeerHead]:
        """Latest word of every peer, ascending by peer."""
        return dict(sorted(self._heads.items()))

    def claim(self, peer: PeerId, head: WorldHead, now_ms: int) -> bool:
        """Note a peer's word; True if its height is above all that is proved, so that proof should be asked for."""
        known = self._heads.pop(peer, None)
        certified = known.certified_height if known else 0
        self._heads[peer] = PeerHead(head, certified, now_ms)
        while len(self._heads) > PEERS_MAX:
            self._heads.pop(next(iter(self._heads)))  # oldest first: claim re-inserts at the end
        return head.height > self._highest

    def certify(self, peer: PeerId, head: WorldHead, now_ms: int) -> None:
        """Note a head whose certificate has been verified."""
        self._heads.pop(peer, None)
        self._heads[peer] = PeerHead(head, head.height, now_ms)
        self._highest = max(self._highest, head.height)

    def raise_to(self, height: int) -> None:
        """The own committed height is proved too."""
        self._highest = max(self._highest, height)

    def forget(self, peer: PeerId) -> None:
        """The peer is gone."""
        self._heads.pop(peer, None)

    def sources(self, height: int) -> list[PeerId]:
        """Peers that say they have ``height``: those that proved it first, and equals in turn from height to height."""
        able = sorted(peer for peer, told in self._heads.items() if told.head.height >= height)
        # Heights are often asked for in strides, so the turn is not the height itself.
        start = int.from_bytes(hash32(b"%d" % height)[:4], "big") % len(able) if able else 0
        able = able[start:] + able[:start]
        return sorted(able, key=lambda peer: self._heads[peer].certified_height < height)
