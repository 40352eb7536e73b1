"""The two clocks of a node: monotonic for scheduling, wall time for fields in records (section 4, rule 7)."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio


def _system_wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Clock:
    """Milliseconds; the monotonic one is trio's, so a test's virtual clock drives it."""

    def __init__(self, wall_ms: Callable[[], int] = _system_wall_ms) -> None:
        self.wall_ms = wall_ms
        """Milliseconds since the epoch; only ever written into records and shown to people."""

    def now_ms(self) -> int:
        """Monotonic milliseconds; meaningful only as differences."""
        return int(trio.current_time() * 1000)
