"""Consensus messages that the round engine holds, by their bytes: a repeat is not verified again."""

from __future__ import annotations

from typing import Final

HEARD_MAX: Final = 4_096
"""Messages remembered; all are forgotten above it, which costs no more than verifying repeats again."""


class Heard:
    """Repeats are most of what arrives while a height stalls, and a busy machine has no time to verify them.

    The engine may drop what it held when something else arrives; ``forget`` then lets every repeat through.
    """

    def __init__(self) -> None:
        self._messages: set[bytes] = set()

    def add(self, data: bytes) -> None:
        """This message goes to the engine."""
        if len(self._messages) >= HEARD_MAX:
            self._messages.clear()
        self._messages.add(data)

    def __contains__(self, data: bytes) -> bool:
        return data in self._messages

    def forget(self) -> None:
        """A new height or round, or the engine dropped something."""
        self._messages.clear()
