"""Named counters of one network: messages, bytes and drops by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class Counters:
    """Counts by name; names are fixed words of the code, never taken from what a peer sent."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: str, amount: int = 1) -> None:
        """Raise the counter ``name``."""
        self._counts[name] += amount

    def snapshot(self) -> Mapping[str, int]:
        """A copy, ascending by name."""
        return dict(sorted(self._counts.items()))
