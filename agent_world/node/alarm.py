"""Wakes a loop at a time that moves with every input it takes, without a deadline set and cleared for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

LATE_MS: Final = 0.01
"""In seconds a time may be rounded to a little less than it is in milliseconds: nothing would be due yet."""


class Alarm:
    """Rings at the time set, or before: whoever is woken looks what is due, and sets the next time.

    A time that is put off is not followed: the alarm rings at the earlier one, and is set anew then.
    """

    def __init__(self) -> None:
        self._at_s = math.inf
        self._scope = trio.CancelScope()

    def set(self, at_ms: int | None) -> None:
        """Ring at this time of ``Clock.now_ms``, unless it rings earlier anyway; None sets nothing."""
        at_s = math.inf if at_ms is None else (at_ms + LATE_MS) / 1000
        if at_s < self._at_s:
            self._at_s = self._scope.deadline = at_s

    async def run(self, ring: Callable[[], None]) -> None:
        """Until cancelled, and again later; ``ring`` is called once for every time."""
        while True:
            with trio.CancelScope(deadline=self._at_s) as self._scope:
                await trio.sleep(math.inf)
            self._at_s = math.inf
            ring()
