"""What challenges have shown of other nodes and of the own disk, over restarts."""

from __future__ import annotations

import json
from typing import Final

from agent_world.distfs.challenge_json import cursor_from_json, cursor_to_json, target_from_json, target_to_json
from agent_world.distfs.challenge_policy import TargetRecord
from agent_world.distfs.probe import ProbeCursorState
from agent_world.errors import DecodeError
from agent_world.store.home import Home
from agent_world.wire.ids import PeerId, check_peer_id

TARGETS_MAX: Final = 1_024
"""Targets kept; the one that was checked longest ago is forgotten."""


class ChallengeBook:
    """The two tables of one home. A damaged row counts as none, and is counted."""

    def __init__(self, home: Home) -> None:
        self._database = home.database
        self.damaged = 0
        """Rows that could not be read."""

    def targets(self) -> dict[PeerId, TargetRecord]:
        """All targets, ascending by id."""
        found: dict[PeerId, TargetRecord] = {}
        for peer, state in self._database.query("SELECT peer_id, state FROM challenge_targets ORDER BY peer_id"):
            try:
                found[PeerId(check_peer_id(peer))] = target_from_json(json.loads(state))
            except (DecodeError, ValueError):
                self.damaged += 1
        return found

    def put_target(self, peer: PeerId, target: TargetRecord) -> None:
        """Note what is known of a target now."""
        with self._database.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO challenge_targets VALUES (?, ?, ?)",
                (check_peer_id(peer), json.dumps(target_to_json(target)), target.last_checked_ms),
            )
            self._database.execute(
                "DELETE FROM challenge_targets WHERE peer_id NOT IN"
                " (SELECT peer_id FROM challenge_targets ORDER BY checked_ms DESC, peer_id LIMIT ?)",
                (TARGETS_MAX,),
            )

    def cursor(self) -> ProbeCursorState:
        """Where the probe of the own disk is; the beginning if nothing readable was noted."""
        for (state,) in self._database.query("SELECT state FROM challenge_probe"):
            try:
                return cursor_from_json(json.loads(state))
            except (DecodeError, ValueError):
                self.damaged += 1
        return ProbeCursorState()

    def put_cursor(self, state: ProbeCursorState) -> None:
        """Note where it is now."""
        with self._database.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO challenge_probe VALUES (1, ?)", (json.dumps(cursor_to_json(state)),)
            )
