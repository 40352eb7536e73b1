"""Who is worth asking first, by what nodes have signed of themselves. Pure; a record is a word and no proof."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from agent_world.wire.capability import CapabilityRecord
from agent_world.wire.hello import Role
from agent_world.wire.ids import PeerId

KEEPERS_MAX: Final = 1_024
"""Nodes whose record is remembered; the one read longest ago is dropped."""


class Keepers:
    """Capability records of peers, and the order in which they are asked: nobody is left out, whatever they say."""

    def __init__(self) -> None:
        self._said: dict[PeerId, CapabilityRecord] = {}

    def __len__(self) -> int:
        return len(self._said)

    def note(self, said: CapabilityRecord) -> None:
        """A record whose signature was verified; an older one changes nothing."""
        known = self._said.pop(said.peer_id, said)
        self._said[said.peer_id] = said if said.sequence >= known.sequence else known
        while len(self._said) > KEEPERS_MAX:
            self._said.pop(next(iter(self._said)))

    def of(self, peer: PeerId) -> CapabilityRecord | None:
        """What the peer has signed last; None if nothing is known."""
        return self._said.get(peer)

    def for_height(self, peers: Sequence[PeerId], height: int) -> list[PeerId]:
        """Storage nodes that keep the block, others that do, those that have not said, those that do not.

        ``peers`` claim to be at this height or above it, so a record may have been signed before.
        """

        def rank(peer: PeerId) -> int:
            said = self._said.get(peer)
            if said is None:
                return 2
            if said.from_height > height:
                return 3
            return 0 if said.role is Role.STORAGE else 1

        return sorted(peers, key=rank)

    def for_content(self, peers: Sequence[PeerId], claims_storage: Collection[PeerId]) -> list[PeerId]:
        """Storage nodes by their signed record, then ``claims_storage``, whose record is not known, then the others."""

        def rank(peer: PeerId) -> int:
            said = self._said.get(peer)
            if said is None:
                return 1 if peer in claims_storage else 2
            return 0 if said.role is Role.STORAGE else 2

        return sorted(peers, key=rank)
