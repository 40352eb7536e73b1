"""The disk of a simulated node: what survives when its process dies between any two writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from agent_world.consensus import guard
from agent_world.consensus.guard_records import GuardRecord
from agent_world.testing.toy_world import StoredBlock

GUARD_RECORDS_MAX: Final = 64
"""Records after which the guard's files are written anew without the old ones."""


@attrs.define
class Disk:
    """The guard's two files and the chain."""

    guard_database: list[bytes] = attrs.field(factory=list)
    guard_twin: list[bytes] = attrs.field(factory=list)
    chain: list[StoredBlock] = attrs.field(factory=list)

    def load_guard(self) -> guard.GuardState:
        """The stricter of the two files; they are made equal again."""
        states = [
            guard.state_of(GuardRecord.from_bytes(data) for data in file)
            for file in (self.guard_database, self.guard_twin)
        ]
        merged = guard.merge_stricter(*states)
        if states[0] != states[1]:
            self._rewrite_guard(merged)
        return merged

    def write_guard(self, made: GuardRecord, after: guard.GuardState, crash_point: Callable[[str], None]) -> None:
        """One record into both files, with a chance to die before, between and (by the caller) after."""
        crash_point("guard.before")
        self.guard_twin.append(made.to_bytes())
        crash_point("guard.between")
        self.guard_database.append(made.to_bytes())
        if len(self.guard_twin) > GUARD_RECORDS_MAX:
            self._rewrite_guard(after)

    def _rewrite_guard(self, state: guard.GuardState) -> None:
        written = [made.to_bytes() for made in guard.records_of(state)]
        self.guard_database, self.guard_twin = list(written), list(written)
