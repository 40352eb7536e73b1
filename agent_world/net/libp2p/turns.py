"""When a reader that has more frames at hand lets others go first.

Frames that arrive together are handed out together, and what comes of them is written together: good for small
requests, of which a write costs as much as all else. But when each is some work, the last of a batch is done before the
first is on its way, and two ends that could work side by side take turns. So a reader lets others go after every frame
when the work that a few frames have made takes longer, for each of them, than a write.
"""

from __future__ import annotations

from typing import Final

import trio

LONG_S: Final = 0.0001
"""What a write costs, with the switch to the task that makes it."""
TOGETHER: Final = 8
"""Frames that are handed out together, and whose work is measured then: so many that what else the loop has to do in
that time counts little."""
ONE_BY_ONE: Final = 64
"""Frames after which it is measured again whether the work is long."""


class Turns:
    """Of one reader."""

    def __init__(self) -> None:
        self._handed_out = 0
        self._one_by_one = 0

    async def give(self) -> None:
        """Call between two frames that are both here."""
        if self._one_by_one:
            self._one_by_one -= 1
            await trio.lowlevel.checkpoint()
            return
        self._handed_out += 1
        if self._handed_out < TOGETHER:
            return
        began = trio.current_time()
        for _ in range(2):  # after one turn this reader may be the first to go on, and has seen nothing yet
            await trio.lowlevel.checkpoint()
        if trio.current_time() - began >= LONG_S * TOGETHER:
            self._one_by_one = ONE_BY_ONE
        self._handed_out = 0

    def rest(self) -> None:
        """Call where no frame follows: what was handed out before is done when the next one comes."""
        self._handed_out = 0
