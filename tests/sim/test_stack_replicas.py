"""Stack tier: with a target below all each content is kept at so many storage nodes, which see to that themselves."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

import attrs
import trio

from agent_world.config import MINIMAL, NodeConfig, ReplicasConfig
from agent_world.node.views import NodeViews
from agent_world.store.content import ContentState
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, create, found_people
from agent_world.wire.cid import Cid

TARGET: Final = 3
REPLICAS: Final = ReplicasConfig(target_replicas_per_blob=TARGET, poll_interval_ms=5_000)
CONFIG: Final[NodeConfig] = attrs.evolve(
    MINIMAL,
    replicas=REPLICAS,
    consensus=attrs.evolve(MINIMAL.consensus, empty_block_interval_ms=2_000),
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


async def test_new_content_is_kept_at_as_many_nodes_as_wanted(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 20)
        await trio.sleep(30)
        assert counts(stack, cids) == [TARGET] * len(cids)
        assert all(sum(name in copies(stack, cid) for cid in cids) for name in KEEPERS), "everybody keeps some"
        assert sum_of(stack, "replicas.attempted") == 0, "there was nothing to plan"
        holders = {stack.members[name].peer_id for name in copies(stack, cids[0])}
        assert stack.dht.providers[cids[0].digest] == holders
        for name in ("o1", "s1", "v2"):
            if name in stack.members:
                assert await NodeViews(stack.node(name)).blob(cids[0].digest)


async def test_what_a_wiped_node_kept_is_copied_and_no_more(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 20)
        await trio.sleep(60)
        lost = [cid for cid in cids if "s2" in copies(stack, cid)]
        assert lost
        await stack.stop("s2")
        assert {len(copies(stack, cid)) for cid in lost} == {TARGET - 1}
        pulled = sum_of(stack, "storage.pulled")
        await stack.until(lambda: counts(stack, cids) == [TARGET] * len(cids), "repaired")
        assert sum_of(stack, "storage.pulled") - pulled == len(lost), "a copy each, and nothing else moved"
        await trio.sleep(30)
        assert counts(stack, cids) == [TARGET] * len(cids)
        assert sum_of(stack, "storage.pulled") - pulled == len(lost)
