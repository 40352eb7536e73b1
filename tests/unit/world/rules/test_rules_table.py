from __future__ import annotations

from agent_world.wire.action import PAYLOADS
from agent_world.world.rules import HANDLERS


def test_every_action_kind_has_a_rule() -> None:
    assert HANDLERS.keys() == PAYLOADS.keys()
