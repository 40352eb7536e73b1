"""Stack tier: a node whose home was reset, cut short or rolled back joins the others again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from agent_world.node.rollback import roll_back
from agent_world.store.home import locked_home
from agent_world.store.reset import reset_home
from agent_world.testing.stack import Stack, open_stack, specs
from agent_world.testing.stack_actions import found_people

FRAME = 24 + 4096
"""A frame of the write-ahead log."""


def reset(stack: Stack, name: str) -> None:
    with locked_home(stack.members[name].home) as files:
        reset_home(files, stack.genesis_hash, keep_guard=True)
    stack.checker.emptied(name)
    stack.history[name].clear()


@pytest.mark.parametrize("name", ["v4", "o1"])
async def test_a_reset_node_syncs_again_and_contradicts_nothing(
    tmp_path: Path, autojump_clock: object, name: str
) -> None:
    async with open_stack(tmp_path, specs(validators=4, observers=1)) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await stack.until_height(6)
        await stack.stop(name)
        reset(stack, name)
        await stack.start(name)
        assert stack.node(name).ledger.height == 0
        await stack.until_height(stack.top() + 5)
        assert stack.agree()
        if name == "v4":
            # With one other validator away, each block needs the vote of the one that was reset.
            await stack.stop("v3")
            await stack.until_height(stack.top() + 3)


async def test_a_node_whose_log_was_cut_catches_up(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await stack.until_height(5)
        home = stack.members["v4"].home
        image = tmp_path / "image"
        shutil.copytree(home, image, ignore=shutil.ignore_patterns("*-shm"))
        await stack.stop("v4")
        shutil.rmtree(home)
        image.rename(home)
        log = home / "world.db-wal"
        os.truncate(log, log.stat().st_size - FRAME - 7)
        before = stack.checker.heights["v4"]
        stack.checker.emptied("v4")
        stack.history["v4"].clear()
        await stack.start("v4")
        assert 0 < stack.node("v4").ledger.height <= before
        await stack.until_height(stack.top() + 5)
        assert stack.agree()


async def test_a_rolled_back_validator_goes_on(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await stack.until_height(5)
        await stack.stop("v4")
        assert roll_back(stack.members["v4"].home, from_height=2).height >= 5
        await stack.start("v4")
        await stack.until_height(stack.top() + 5)
        assert stack.agree()
