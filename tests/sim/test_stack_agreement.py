"""Stack tier: all nodes commit the same chain, whoever an action was handed to and whatever gossip loses."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from agent_world.net.memory import LinkSettings
from agent_world.testing.stack import open_stack, seeded_scheduler, specs
from agent_world.testing.stack_actions import balances, trade


async def test_actions_handed_in_anywhere_are_committed_everywhere(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4, storage=1, observers=1)) as stack:
        await stack.start_all()
        await trade(stack, "o1", "v1", "s1", "v3")
        await stack.until_height(stack.top())
        assert stack.agree()
        for name in stack.members:
            assert balances(stack, name) == {"alice": 40, "bob": 60}
            status = stack.status(name)["consensus"]
            assert status["committed_height"] == status["last_execution_height"]
        assert stack.status("o1")["consensus"]["validator_id"] is None
        assert stack.status("v1")["consensus"]["validator_id"] == "v1"


async def test_who_has_no_vote_follows_certified_heads(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4, storage=1, observers=1)) as stack:
        await stack.start_all()
        await stack.until_height(6)
        for name in ("s1", "o1"):
            counters = stack.counters(name)
            assert counters["sync.heights"] == stack.node(name).ledger.height
            assert not any(counter.startswith("consensus.committed") for counter in counters)


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_lossy_network_slows_but_stops_nothing(tmp_path: Path, autojump_clock: object, seed: int) -> None:
    link = LinkSettings(
        delay_max_s=0.05, gossip_loss=0.2, gossip_duplicate=0.1, gossip_reorder=0.3, connection_loss=0.002
    )
    async with open_stack(tmp_path, specs(validators=4, observers=1), seed=seed, link=link) as stack:
        await stack.start_all()
        await trade(stack, "o1", "v2")
        await stack.until_height(stack.top() + 3)
        assert stack.agree()
        assert all(balances(stack, name) == {"alice": 40, "bob": 60} for name in stack.members)


def run_once(directory: Path, seed: int) -> tuple[str, dict[str, list[tuple[int, str]]]]:
    async def run() -> tuple[str, dict[str, list[tuple[int, str]]]]:
        link = LinkSettings(delay_max_s=0.03, gossip_loss=0.1, gossip_reorder=0.2)
        async with open_stack(directory, specs(validators=4, observers=1), seed=seed, link=link) as stack:
            await stack.start_all()
            await trade(stack, "v1", "o1")
            await stack.until_height(8)
            return stack.hub.trace(), stack.history

    with seeded_scheduler(seed):
        return trio.run(run, clock=MockClock(autojump_threshold=0))


def test_one_seed_is_one_run(tmp_path: Path) -> None:
    first = run_once(tmp_path / "first", 7)
    assert run_once(tmp_path / "again", 7) == first
    assert run_once(tmp_path / "other", 8) != first
