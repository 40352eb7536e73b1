"""What the rows of the benchmark table have in common: percentiles, and how a result is shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import attrs


@attrs.frozen
class Latencies:
    """Times of one operation done again and again, in milliseconds."""

    p50_ms: float
    p99_ms: float
    per_second: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float], *, elapsed_s: float) -> Latencies:
        """From single times; ``elapsed_s`` is the wall time that all of them took together."""
        ordered = sorted(seconds)
        return cls(
            p50_ms=round(statistics.median(ordered) * 1000, 2),
            p99_ms=round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000, 2),
            per_second=round(len(ordered) / elapsed_s, 1),
            count=len(ordered),
        )


def middle(runs: Sequence[Latencies]) -> dict[str, Any]:
    """Median of every figure over the runs, with the runs' own p50 beside it so that noise can be seen."""
    return {
        "p50_ms": statistics.median(run.p50_ms for run in runs),
        "p99_ms": statistics.median(run.p99_ms for run in runs),
        "per_second": statistics.median(run.per_second for run in runs),
        "p50_ms_of_runs": [run.p50_ms for run in runs],
        "count": sum(run.count for run in runs),
    }
