"""Five storage nodes that share what the world names, and who of them keeps what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Final

import attrs

from agent_world.config import MINIMAL, NodeConfig, ReplicasConfig
from agent_world.node.views import NodeViews
from agent_world.store.content import ContentState
from agent_world.testing.stack import Stack, make_key, specs
from agent_world.testing.stack_actions import applied, create, found_people
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId

TARGET: Final = 3
REPLICAS: Final = ReplicasConfig(target_replicas_per_blob=TARGET, poll_interval_ms=5_000)
CONFIG: Final[NodeConfig] = attrs.evolve(
    MINIMAL,
    replicas=REPLICAS,
    # These take minutes of virtual time: eight nodes that say hello three times a second are most of the work.
    net=attrs.evolve(MINIMAL.net, heartbeat_s=1.0, hello_interval_s=1.5),
    consensus=attrs.evolve(MINIMAL.consensus, empty_block_interval_ms=2000),
    challenge=attrs.evolve(MINIMAL.challenge, interval_ms=2_000, settle_ms=2_000, challenge_ttl_ms=2_000),
)
KEEPERS: Final = ("s1", "s2", "s3", "s4", "s5")
SWARM: Final = specs(validators=3, storage=5)
OBJECT_BYTES: Final = 5_000


def copies(stack: Stack, cid: Cid) -> set[str]:
    """Who keeps it, by its own table and in its own store."""
    return {
        name
        for name in KEEPERS
        if stack.members[name].node is not None
        and (row := stack.node(name).content.get(cid)) is not None
        and row.state is ContentState.HAVE
        and stack.node(name).blobs.has(cid.digest)
    }


async def name_contents(stack: Stack, count: int, first: int = 0) -> list[Cid]:
    """Objects whose content a validator has."""
    cids = []
    for number in range(first, first + count):
        data = Random(f"object {number}").randbytes(OBJECT_BYTES)
        cids.append(NodeViews(stack.node("v1")).put_blob(data))
        payload = create(f"object-{number}", cids[-1], len(data))
        await applied(stack, "v1", stack.submit("v1", make_key("alice"), payload))
    return cids


async def kept_world(stack: Stack, count: int) -> list[Cid]:
    await stack.start_all()
    await found_people(stack, "v1")
    await stack.until(
        lambda: all(len(stack.node(name).replicas.holdings.members()) == len(KEEPERS) for name in KEEPERS), "all meet"
    )
    cids = await name_contents(stack, count)
    await stack.until(lambda: all(len(copies(stack, cid)) >= TARGET for cid in cids), "all have their copies")
    return cids


def counts(stack: Stack, cids: list[Cid]) -> list[int]:
    return [len(copies(stack, cid)) for cid in cids]


def sum_of(stack: Stack, counter: str) -> int:
    return sum(stack.counters(name).get(counter, 0) for name in KEEPERS if stack.members[name].node is not None)


QUOTA: Final = 200_000


def fill(stack: Stack, name: str, per_mille: int) -> None:
    """Give a node content of its own, pinned there, so that so much of its quota is used."""
    size = QUOTA * per_mille // 1_000 - stack.node(name).replicas.holdings.used_bytes()
    NodeViews(stack.node(name)).put_blob(Random(f"own {name}").randbytes(size))


def keepers(stack: Stack) -> list[PeerId]:
    return [stack.members[name].peer_id for name in KEEPERS]


FILE_BYTES: Final = 2_000_000


async def named_file(stack: Stack) -> Cid:
    """A file of several chunks that the world names; a validator has it."""

    async def parts() -> AsyncIterator[bytes]:
        yield Random("file").randbytes(FILE_BYTES)

    stored = await NodeViews(stack.node("v1")).put_content(parts())
    payload = create("file", stored.cid, stored.size_bytes)
    await applied(stack, "v1", stack.submit("v1", make_key("alice"), payload))
    await stack.until(lambda: len(copies(stack, stored.cid)) >= TARGET, "the file has its copies")
    return stored.cid
