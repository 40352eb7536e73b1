"""Side by side in one process: short loops in turn, so that whatever slows the machine slows all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import attrs


@attrs.frozen
class Rates:
    """Rates of one contender, one a round, in operations a second."""

    name: str
    per_second: tuple[float, ...]

    @property
    def median(self) -> float:
        """Operations a second."""
        return statistics.median(self.per_second)

    def ratio_to(self, other: Rates) -> float:
        """Median of the rounds' own ratios: what both went through in one round cancels out."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.per_second, other.per_second, strict=True))


def alternate(contenders: Mapping[str, Callable[[], int]], *, rounds: int, loop_s: float) -> Sequence[Rates]:
    """Each contender in turn for ``loop_s``, ``rounds`` times; a batch returns how many operations it did."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for batch in contenders.values():  # the first batch pays for caches and lazy imports
        batch()
    for _ in range(rounds):
        for name, batch in contenders.items():
            done, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < loop_s:
                done += batch()
            rates[name].append(done / elapsed)
    return [Rates(name, tuple(values)) for name, values in rates.items()]
