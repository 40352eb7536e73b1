"""Records that came before those they follow wait here, a bounded number of them (K-8.5)."""

from __future__ import annotations

from agent_world.distfs.replication import Accepted, Gap, OpenedRecord, Place, SingleWriterReplicationGuard, judge


class ReorderBuffer:
    """By place in the log. When full, the one furthest ahead is dropped: it can be asked for again when it is due."""

    def __init__(self, records_max: int) -> None:
        self._records_max = records_max
        self._waiting: dict[Place, OpenedRecord] = {}
        self.dropped = 0
        """Records dropped for want of room."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, opened: OpenedRecord) -> bool:
        """Whether it waits now; False if there was no room for it."""
        self._waiting[opened.place] = opened
        if len(self._waiting) <= self._records_max:
            return True
        furthest = max(self._waiting)
        del self._waiting[furthest]
        self.dropped += 1
        return furthest != opened.place

    def next(self, guard: SingleWriterReplicationGuard) -> OpenedRecord | None:
        """The record that the guard accepts now; None if none does. What can never be accepted any more goes."""
        for place in sorted(self._waiting):
            judgement = judge(guard, self._waiting[place].record)
            if isinstance(judgement, Accepted):
                return self._waiting[place]
            if not isinstance(judgement, Gap):
                del self._waiting[place]
        return None

    def drop(self, place: Place) -> None:
        """It was applied, or is none."""
        self._waiting.pop(place, None)

    def gap(self, guard: SingleWriterReplicationGuard) -> Gap | None:
        """What is missing before the first record that waits; None if nothing waits or nothing is missing."""
        for place in sorted(self._waiting):
            judgement = judge(guard, self._waiting[place].record)
            if isinstance(judgement, Gap):
                return judgement
        return None
