"""When a reader that has more frames at hand lets others go first.

Frames that arrive together are handed out together, and what comes of them is written together: good for small
requests, of which a write costs as much as all else. But when each is some work, the last of a batch is done before the
first is on its way, and two ends that could work side by side take turns. So a reader lets others go after each frame
as long as they need longer than a write.
"""

from __future__ import annotations

from typing import Final

import trio

LONG_S: Final = 0.0001
"""What a write costs, with the switch to the task that makes it."""
SKIPPED: Final = 31
"""Frames after which it is tried again whether others need long."""


class Turns:
    """Of one reader."""

    def __init__(self) -> None:
        self._skipped = 0
        self._was_short = False

    async def give(self) -> None:
        """Call between two frames that are both here."""
        if self._skipped:
            self._skipped -= 1
            return
        began = trio.current_time()
        await trio.lowlevel.checkpoint()
        is_short = trio.current_time() - began < LONG_S
        # Once is no proof: this reader may have been the first to have its turn again.
        if is_short and self._was_short:
            self._skipped = SKIPPED
        self._was_short = is_short
