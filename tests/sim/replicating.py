"""Record logs in the stack tier: taking the lease, writing files, waiting for what is covered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from agent_world.config import MINIMAL, LeaseConfig, NodeConfig
from agent_world.distfs.paths import is_reserved
from agent_world.net.memory import LinkSettings
from agent_world.node.provision import NodeSpec
from agent_world.node.validator_views import ValidatorControl
from agent_world.node.views import NodeViews
from agent_world.testing.replication_checker import ReplicationChecker
from agent_world.testing.stack import Stack, open_stack, specs

LEASE = LeaseConfig(ttl_ms=4_000)
CONFIG = attrs.evolve(
    MINIMAL,
    lease=LEASE,
    replication=attrs.evolve(MINIMAL.replication, gate_grace_records=4, publish_batch=4, gate_timeout_ms=200),
)
SWARM = specs(validators=4, storage=1, observers=1)


@asynccontextmanager
async def open_checked(
    directory: Path,
    nodes: tuple[NodeSpec, ...] = SWARM,
    *,
    seed: int = 1,
    link: LinkSettings | None = None,
    config: NodeConfig = CONFIG,
) -> AsyncIterator[tuple[Stack, ReplicationChecker]]:
    async with open_stack(directory, nodes, seed=seed, link=link, config=config) as stack:
        checker = ReplicationChecker(stack)
        stack.built = checker.watch
        yield stack, checker


async def take_lease(stack: Stack, name: str, *, keep: bool = True) -> int:
    granted = await ValidatorControl(stack.node(name)).acquire_lease(None, keep=keep)
    assert granted["code"] == "ok", granted
    term: int = granted["term"]
    return term


def covered(stack: Stack, name: str) -> int:
    return stack.node(name).replication.store.covered_height()


async def until_covered(stack: Stack, height: int, *names: str) -> None:
    chosen = names or tuple(name for name, member in stack.members.items() if member.node is not None)
    await stack.until(lambda: all(covered(stack, name) >= height for name in chosen), f"{height} is covered")


async def until_same_place(stack: Stack, *names: str) -> None:
    chosen = names or tuple(name for name, member in stack.members.items() if member.node is not None)
    places = lambda: {stack.node(name).replication.log.place() for name in chosen}  # noqa: E731
    await stack.until(lambda: len(places()) == 1, "all logs end at one place")


def put(stack: Stack, name: str, path: str, data: bytes) -> None:
    content = NodeViews(stack.node(name)).put_blob(data)
    stack.node(name).files.index.put_content(path, None, content, len(data))


def index(stack: Stack, name: str) -> dict[str, str]:
    return {
        file.path: str(file.content)
        for file in stack.node(name).replication.store.indexed()
        if not is_reserved(file.path)
    }
