"""What a rule is handed: the state, who acts, when, and where its events go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import attrs

from agent_world.errors import ChainError
from agent_world.wire.consensus import ValidatorEntry
from agent_world.wire.ids import ActorId, Hash32, TimeMs
from agent_world.wire.limits import STATE_KEY_BYTES_MAX
from agent_world.world.reasons import NAME_TOO_LONG, NOT_A_VALIDATOR, UNKNOWN_RECIPIENT, RuleRefusal, refuse_unless
from agent_world.world.records import ACTORS, VALIDATORS, ActorRecord
from agent_world.world.state import WorldState

P = TypeVar("P")


@attrs.frozen(slots=True, kw_only=True)
class RuleContext:
    """One action being executed. A rule reads and writes ``state`` and calls ``emit``; nothing else."""

    state: WorldState
    actor_id: ActorId
    """The signer; its record is in the state, with the nonce of this action."""
    action_id: Hash32
    height: int
    timestamp_ms: TimeMs
    """Block time: the only clock there is."""
    emit: Callable[[object], None]
    """Takes an event's payload, a record of ``world.events``; kept only if the rule does not refuse."""

    def actor(self) -> ActorRecord:
        """The signer's record."""
        found = self.state.get(ACTORS, self.actor_id)
        if found is None:
            raise ChainError(self.height, "state", f"actor {self.actor_id} vanished while it acted")
        return found

    def validator(self) -> ValidatorEntry:
        """The signer as a member of the set that decides this height; refuses anybody else."""
        key = self.actor().public_key
        found = next((entry for entry in self.state.need(VALIDATORS).validators if entry.public_key == key), None)
        if found is None:
            raise RuleRefusal(NOT_A_VALIDATOR)
        return found

    def require_recipient(self, actor_id: ActorId) -> None:
        """Refuse unless this actor exists."""
        refuse_unless(self.state.get(ACTORS, actor_id) is not None, UNKNOWN_RECIPIENT)


Handler: TypeAlias = "Callable[[RuleContext, P], None]"
"""Applies an action's payload; raises RuleRefusal to reject it, after which its writes and events are dropped."""


def require_key_fits(key: bytes) -> None:
    """Refuse a name that makes the state key too long; only names of mostly 4-byte characters can."""
    refuse_unless(len(key) <= STATE_KEY_BYTES_MAX, NAME_TOO_LONG)
