"""Locks that cost nothing when nobody waits: a trio.Lock gives its turn away on every acquisition, and keeps books."""

from __future__ import annotations

from types import TracebackType

import trio


class QuietLock:
    """As trio.Lock in ``async with``, without a checkpoint unless another task holds it. Turns go in order."""

    __slots__ = ("_held", "_waiting")

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()

    def locked(self) -> bool:
        """Whether a task holds it."""
        return self._held

    async def __aenter__(self) -> None:
        if self._held:
            await self._waiting.park()  # whoever leaves hands it over held
        self._held = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._waiting:
            self._waiting.unpark()
        else:
            self._held = False
