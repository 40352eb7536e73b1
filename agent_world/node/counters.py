"""Named counters: every drop, refusal, retry and fallback has one (I-11)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

NAMES_MAX: Final = 1_024
"""Different names; further ones are counted under ``other``, so that hostile input cannot grow the table."""


class Counters(Mapping[str, int]):
    """Counts by name, such as ``action.refused.A9``."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: str, amount: int = 1) -> None:
        """Count ``amount`` under ``name``."""
        if name not in self._counts and len(self._counts) >= NAMES_MAX:
            name = "other"
        self._counts[name] += amount

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._counts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._counts))

    def __len__(self) -> int:
        return len(self._counts)
