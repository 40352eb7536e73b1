"""Stack tier: the lease's holder writes the record log, everybody else follows it (T-8.1, T-8.7, T-9.5 to T-9.7)."""

from __future__ import annotations

from pathlib import Path

import attrs

from agent_world.config import MINIMAL, LeaseConfig
from agent_world.node.validator_views import ValidatorControl
from agent_world.testing.stack import Stack, open_stack, specs

CONFIG = attrs.evolve(MINIMAL, lease=LeaseConfig(ttl_ms=4_000))


async def take_lease(stack: Stack, name: str) -> int:
    granted = await ValidatorControl(stack.node(name)).acquire_lease(None, keep=True)
    assert granted["code"] == "ok", granted
    term: int = granted["term"]
    return term


def covered(stack: Stack, name: str) -> int:
    return stack.node(name).replication.store.covered_height()


async def until_covered(stack: Stack, height: int, *names: str) -> None:
    await stack.until(
        lambda: all(covered(stack, name) >= height for name in names or stack.members), f"{height} is covered"
    )


async def test_every_height_of_the_holder_is_recorded_everywhere(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, storage=1, observers=1), config=CONFIG) as stack:
        await stack.start_all()
        assert await take_lease(stack, "v1") == 1
        await until_covered(stack, stack.top() + 10)
        await stack.until_height(stack.top())
        for name in stack.members:
            shown = stack.status(name)["replication"]
            assert (shown["term"], shown["holder_id"], shown["last_error"]) == (1, "v1", None)
            assert shown["writes"] is (name == "v1")
