"""Ids of gossip messages that were seen, bounded in number: what is seen again is neither judged nor forwarded."""

from __future__ import annotations

from typing import Final

GENERATION_MAX: Final = 32_768
"""Ids in one of two generations, some 5 MiB each: ten seconds at the most that a node takes in from one busy peer,
minutes in a healthy swarm. Copies of a message arrive within a few heartbeats."""


class SeenIds:
    """The last GENERATION_MAX ids at least, twice as many at most. Satisfies what the library asks of its cache."""

    def __init__(self, generation_max: int = GENERATION_MAX) -> None:
        self._generation_max = generation_max
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def has(self, message_id: bytes) -> bool:
        """Whether this id was added, and not too many after it."""
        return message_id in self._young or message_id in self._old

    def add(self, message_id: bytes) -> bool:
        """Remember an id; whether it is new."""
        if self.has(message_id):
            return False
        if len(self._young) >= self._generation_max:
            self._old, self._young = self._young, set()
        self._young.add(message_id)
        return True

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
