"""Stack tier: a peer of another world, or of another genesis of the same name, is refused and let go (N1, N2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from agent_world.testing.stack import Stack, open_stack, specs
from agent_world.testing.stack_actions import found_people
from agent_world.wire.ids import U64, WorldId

FOREIGN: dict[str, dict[str, Any]] = {
    "N1": {"world_id": WorldId("another")},
    "N2": {"epoch_length_slots": U64(33)},
}
NATIVES = ("v1", "v2", "v3")


def linked(stack: Stack) -> bool:
    """Whether the foreigner has a link to anybody."""
    foreigner = stack.members["o1"].peer_id
    return any(stack.hub.is_connected(foreigner, stack.members[name].peer_id) for name in NATIVES)


@pytest.mark.parametrize("rule", FOREIGN)
async def test_a_foreigner_is_told_why_and_both_let_go(tmp_path: Path, autojump_clock: object, rule: str) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=1)) as stack:
        for name in NATIVES:
            await stack.start(name)
        await found_people(stack, "v1")
        native, stack.genesis = stack.genesis, attrs.evolve(stack.genesis, **FOREIGN[rule])
        foreigner = stack.members["o1"]
        foreigner.home = tmp_path / "foreign"
        stack.make_home(foreigner)
        await stack.start("o1")
        stack.genesis = native
        refused = f"hello.refused.{rule}"
        await stack.until(lambda: stack.counters("o1").get(refused, 0) >= 1, "the foreigner knows why")
        await stack.until(lambda: not linked(stack), "let go")
        await trio.sleep(20)
        assert not linked(stack)
        assert sum(stack.counters(name).get(refused, 0) for name in ("o1", *NATIVES)) <= 6
        assert foreigner.peer_id not in stack.node("v1").peering.hellos
        assert stack.node("o1").ledger.height == 0
        await stack.until_height(stack.top() + 2, *NATIVES)
