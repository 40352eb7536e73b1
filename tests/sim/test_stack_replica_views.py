"""Stack tier: storage nodes of which each sees only some of the others keep too many copies, and never too few."""

from __future__ import annotations

from pathlib import Path
from random import Random

import attrs
import pytest
import trio
from sharing import CONFIG, OBJECT_BYTES

from agent_world.config import ReplicasConfig
from agent_world.node import links
from agent_world.node.views import NodeViews
from agent_world.store.content import ContentState
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, create, found_people
from agent_world.wire.cid import Cid

TARGET = 2
NODES = tuple(f"s{number}" for number in range(1, 9))
SPARSE = attrs.evolve(
    CONFIG,
    net=attrs.evolve(CONFIG.net, heartbeat_s=2.0, hello_interval_s=3.0),
    replicas=ReplicasConfig(target_replicas_per_blob=TARGET, poll_interval_ms=5_000),
)


def holders(stack: Stack, cid: Cid) -> list[str]:
    return [
        name
        for name in NODES
        if stack.members[name].node is not None
        and (row := stack.node(name).content.get(cid)) is not None
        and row.state is ContentState.HAVE
        and stack.node(name).blobs.has(cid.digest)
    ]


def copies(stack: Stack, cid: Cid) -> int:
    return len(holders(stack, cid))


async def test_nodes_that_see_some_of_the_others_keep_enough_copies(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a world of more storage nodes than a node keeps links to."""
    monkeypatch.setattr(links, "KEEPER_DIALS_MAX", 0)
    monkeypatch.setattr(links, "OWN_DIALS", 3)
    monkeypatch.setattr(links, "LINKS_ENOUGH", 5)
    async with open_stack(tmp_path, specs(validators=1, storage=len(NODES)), config=SPARSE) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await trio.sleep(15)
        seen = [len(stack.node(name).replicas.holdings.members()) for name in NODES]
        assert min(seen) < len(NODES) - 2, "they see different nodes"
        cids = []
        for number in range(8):
            data = Random(f"object {number}").randbytes(OBJECT_BYTES)
            cids.append(NodeViews(stack.node("v1")).put_blob(data))
            created = create(f"object-{number}", cids[-1], len(data))
            await applied(stack, "v1", stack.submit("v1", make_key("alice"), created))
        await stack.until(lambda: all(copies(stack, cid) >= TARGET for cid in cids), "all have their copies")
        await trio.sleep(30)
        assert min(copies(stack, cid) for cid in cids) >= TARGET, "what was given up was too many"
        assert max(copies(stack, cid) for cid in cids) > TARGET, "and some is not seen to be"
        pulled = sum(stack.counters(name).get("storage.pulled", 0) for name in NODES)
        await trio.sleep(30)
        again = sum(stack.counters(name).get("storage.pulled", 0) for name in NODES)
        assert again - pulled <= len(cids) // 2, "what one gives up the others do not fetch again and again"
        fewest = min(cids, key=lambda cid: copies(stack, cid))
        for name in holders(stack, fewest)[1:]:
            await stack.stop(name)
        assert copies(stack, fewest) == 1
        await stack.until(lambda: all(copies(stack, cid) >= TARGET for cid in cids), "what they kept is made good")
