"""Verification of messages for all nodes of a simulation at once."""

from __future__ import annotations

from typing import Final

from agent_world.consensus.context import HeightContext
from agent_world.consensus.messages import Message, open_message
from agent_world.errors import Ignored, RemoteError
from agent_world.wire.ids import Hash32

OPENED_MAX: Final = 20_000
"""Results remembered; above it all are made again."""


class OpenedMessages:
    """``open_message`` is a function, so what it found for one node serves all at the same height of one chain."""

    def __init__(self) -> None:
        self._found: dict[tuple[Hash32, bytes], Message | RemoteError | Ignored] = {}

    def open(self, data: bytes, context: HeightContext) -> Message | RemoteError | Ignored:
        """The verified message, or the error that ``open_message`` raised."""
        place = (context.parent_hash, data)
        found = self._found.get(place)
        if found is None:
            try:
                found = open_message(data, context)
            except (RemoteError, Ignored) as error:
                found = error
            if len(self._found) >= OPENED_MAX:
                self._found.clear()
            self._found[place] = found
        return found
