"""Stack tier: storage nodes keep a snapshot at hand, and whoever has a certified head finds it."""

from __future__ import annotations

from pathlib import Path

import attrs

from agent_world.config import MINIMAL, ConsensusConfig
from agent_world.net.interface import RequestHandler
from agent_world.node.snapshot_offer import names_of
from agent_world.node.snapshots import PLANS_MAX
from agent_world.node.views import NodeViews
from agent_world.testing.stack import Stack, open_stack, specs
from agent_world.testing.stack_actions import found_people
from agent_world.wire import record, rpc
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import RPC_BODY_BYTES_MAX
from agent_world.wire.snapshot import SnapshotManifest

EVERY = 8
CONFIG = attrs.evolve(
    MINIMAL,
    # A block every 2 s: a snapshot stays the newest for as long as a test looks at it.
    consensus=ConsensusConfig(block_interval_ms=100, empty_block_interval_ms=2_000),
    storage=attrs.evolve(MINIMAL.storage, snapshot_every_heights=EVERY),
)
SWARM = specs(validators=3, storage=1, observers=1)


def root_at(stack: Stack, height: int) -> Cid:
    """The state root that the certified block names."""
    stored = stack.node("o1").ledger.stored(height)
    assert stored is not None
    return stored.header.state_root


def is_provided(stack: Stack, cid: Cid) -> bool:
    return stack.members["s1"].peer_id in stack.dht.providers.get(cid.digest, ())


async def test_a_snapshot_is_found_by_its_state_and_by_its_manifest(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await stack.until_height(EVERY)
        root = root_at(stack, EVERY)
        await stack.until(lambda: is_provided(stack, root), "the state is provided")
        node, storage = stack.node("o1"), stack.members["s1"].peer_id
        manifest = await node.snapshot_search.find(EVERY, root, able=())
        assert manifest is not None
        assert (manifest.height, manifest.state_root) == (EVERY, root)
        name, _ = names_of(manifest)
        await stack.until(lambda: is_provided(stack, name), "the manifest is provided")
        async with node.client.providers([name.digest]) as providers:
            assert providers == [storage]
        data = await NodeViews(node).blob(name.digest)
        assert record.from_bytes(SnapshotManifest, data, size_max=RPC_BODY_BYTES_MAX) == manifest
        # Its packs are not provided: they come from whoever has the manifest.
        packs = [chunk.content.digest for chunk in manifest.chunks]
        assert set(await node.client.fetch(packs)) == set(packs)
        assert not any(stack.dht.providers.get(pack) for pack in packs)


async def test_the_next_snapshot_takes_its_place_and_others_do_not(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        await stack.start_all()
        await stack.until_height(EVERY)
        await stack.until(lambda: is_provided(stack, root_at(stack, EVERY)), "the first one")
        snapshots = stack.node("s1").snapshots
        first = await snapshots.snapshot(EVERY)
        assert first is not None
        for height in range(1, PLANS_MAX + 3):  # asked for by somebody, which must not push out what is provided
            await snapshots.snapshot(height)
        assert snapshots.find(names_of(first)[0].digest) is not None
        await stack.until_height(2 * EVERY)
        await stack.until(lambda: is_provided(stack, root_at(stack, 2 * EVERY)), "the second one")
        assert not is_provided(stack, root_at(stack, EVERY))
        assert not is_provided(stack, names_of(first)[0])
        assert stack.status("s1")["dht"]["snapshot_offered"] >= 2 * EVERY
        # After a restart it is planned again and provided.
        await stack.stop("s1")
        stack.dht.providers.clear()
        await stack.start("s1")
        await stack.until(lambda: bool(stack.dht.providers), "provided again")
        assert stack.status("o1")["dht"]["snapshot_offered"] == 0


async def test_a_manifest_of_another_state_is_not_taken(tmp_path: Path, autojump_clock: object) -> None:
    async def of_another(handler: RequestHandler, peer: PeerId, request: bytes) -> bytes:
        manifest = record.from_bytes(SnapshotManifest, await handler(peer, request), size_max=RPC_BODY_BYTES_MAX)
        return record.to_bytes(attrs.evolve(manifest, state_root=manifest.chunks[0].content))

    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        await stack.start_all()
        await stack.until_height(EVERY)
        root = root_at(stack, EVERY)
        await stack.until(lambda: is_provided(stack, root), "the state is provided")
        node = stack.node("o1")
        stack.network("s1").lie(rpc.GET_SNAPSHOT, of_another)
        assert await node.snapshot_search.find(EVERY, root, able=()) is None
        assert stack.counters("o1")["snapshot.of_another_state"] == 1
        found = await node.snapshot_search.find(EVERY, root, able=stack.peers("s1", "v1"))
        assert found is not None, "an honest neighbour gives it"
        stack.network("s1").lie(rpc.GET_SNAPSHOT, None)
        assert await node.snapshot_search.find(EVERY, root, able=()) == found
