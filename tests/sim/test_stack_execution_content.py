"""Stack tier: what a block leaves behind is stored and served by who the DHT names (T-3.5), on the whole way from an
action that is handed in to a newcomer that has the same state (T-9.1)."""

from __future__ import annotations

from pathlib import Path

import attrs
import trio

from agent_world.config import MINIMAL, ConsensusConfig
from agent_world.crypto.hashing import content_hash, hash32
from agent_world.node.providing import genesis_root
from agent_world.node.snapshot_offer import names_of
from agent_world.testing.stack import WORLD_ID, Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, balances, found_people, pay
from agent_world.wire import record, rpc
from agent_world.wire.block import BlockBundle, Event, GetBlockRequest
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import U64
from agent_world.wire.limits import RPC_BODY_BYTES_MAX
from agent_world.wire.snapshot import SnapshotManifest
from agent_world.world.journal import assemble_journal

EVERY = 4
CONFIG = attrs.evolve(
    MINIMAL,
    consensus=ConsensusConfig(block_interval_ms=100, empty_block_interval_ms=2_000),
    net=attrs.evolve(MINIMAL.net, hello_interval_s=2.0, heartbeat_s=2.0),
    storage=attrs.evolve(MINIMAL.storage, snapshot_every_heights=EVERY),
)
SWARM = specs(validators=3, storage=1, observers=2)
GATEWAY, NEWCOMER = "o1", "o2"


async def started_but(stack: Stack, *missing: str) -> None:
    for name in stack.members:
        if name not in missing:
            await stack.start(name)


def written(stack: Stack, height: int) -> set[ContentHash]:
    """What the blocks up to ``height`` link to: receipts, list of segments, segments, state root."""
    ledger = stack.node("v2").ledger
    found: set[ContentHash] = set()
    for number in range(1, height + 1):
        journal = ledger.journal_segments(number)
        assert journal is not None
        found.update(cid.digest for cid in ledger.links(number))
        found.update(segment.content.digest for segment in journal[1])
    return found


def journal(stack: Stack, name: str, height: int) -> list[Event]:
    """All events of a member up to ``height``."""
    node = stack.node(name)
    events: list[Event] = []
    for number in range(1, height + 1):
        for ref in node.ledger.journal(number):
            events += assemble_journal(ref, number, node.blobs.get)
    return events


def provided(stack: Stack, name: ContentHash) -> bool:
    return stack.members["s1"].peer_id in stack.dht.providers.get(name, ())


async def snapshot_of(stack: Stack, height: int) -> SnapshotManifest:
    manifest = await stack.node("s1").snapshots.snapshot(height)
    assert manifest is not None
    return manifest


async def test_t_3_5_all_that_a_block_leaves_is_had_from_who_the_dht_names(
    tmp_path: Path, autojump_clock: object
) -> None:
    """T-3.5. What is announced are the genesis, the manifest of a snapshot and its state: their providers serve block,
    list of segments, segments and packs, so that these need no records of their own."""
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        await started_but(stack, NEWCOMER)
        await found_people(stack, "v1")
        await stack.until_height(EVERY)
        manifest = await snapshot_of(stack, EVERY)
        name, state = names_of(manifest)
        root = genesis_root(stack.node("s1").ledger)
        for cid in (root, name, state):
            await stack.until(lambda cid=cid: provided(stack, cid.digest), f"{cid} is provided")  # type: ignore[misc]
        node = stack.node(GATEWAY)
        for announced, wanted in (
            (root, written(stack, EVERY)),
            (name, {name.digest, *(chunk.content.digest for chunk in manifest.chunks)}),
        ):
            async with node.client.providers([announced.digest]) as providers:
                assert stack.members["s1"].peer_id in providers
                found = await node.fetcher.fetch(wanted, [stack.members["s1"].peer_id])
            assert set(found) == wanted
            assert all(content_hash(data) == digest for digest, data in found.items())
        storage = stack.members["s1"].peer_id
        for height in range(1, EVERY + 1):  # blocks are asked for by their heights
            asked = record.to_bytes(GetBlockRequest(world_id=WORLD_ID, height=U64(height)))
            answer = await node.network.request(storage, rpc.GET_BLOCK, asked)
            bundle = record.from_bytes(BlockBundle, answer, size_max=RPC_BODY_BYTES_MAX)
            stored = node.ledger.stored(height)
            assert stored is not None
            assert hash32(bundle.block) == stored.block_hash
        assert not any(stack.dht.providers.get(digest) for digest in written(stack, EVERY) - {state.digest})


async def test_t_9_1_from_an_action_to_the_same_state_at_a_newcomer(tmp_path: Path, autojump_clock: object) -> None:
    """T-9.1. An observer is the gateway, validators execute, a storage node stores; a newcomer whose only known peer
    is gone finds the rest through the DHT."""
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        await started_but(stack, NEWCOMER)
        await found_people(stack, GATEWAY)
        alice = make_key("alice")
        actions = [stack.submit(GATEWAY, alice, pay("bob", 10)) for _ in range(3)]
        await applied(stack, GATEWAY, *actions)
        height = stack.node(GATEWAY).ledger.height
        placed = [stack.node(GATEWAY).ledger.receipt(action) for action in actions]
        assert len({place[0] for place in placed if place is not None}) == 1, "one batch has all three"
        await stack.until_height(height)
        assert balances(stack, "s1") == {"alice": 70, "bob": 30}
        assert stack.node("s1").blobs.has_many(written(stack, height)) == written(stack, height)
        await stack.until(lambda: provided(stack, genesis_root(stack.node("s1").ledger).digest), "it is announced")
        await stack.until(lambda: bool(stack.dht.records), "a head is in the DHT")

        await stack.stop("v1")  # the only node that the newcomer has an address of
        await stack.start(NEWCOMER)
        await stack.until_height(height, NEWCOMER)
        for name in ("s1", NEWCOMER):
            stored = stack.node(name).ledger.stored(height)
            assert stored is not None
            assert stored.header.state_root == stack.node("v2").ledger.links(height)[-1]
            assert journal(stack, name, height) == journal(stack, "v2", height)
        assert len(journal(stack, NEWCOMER, height)) >= 6
        await stack.until_height(stack.top(), NEWCOMER)
        await trio.sleep(5)
        assert stack.agree()
        assert stack.counters(NEWCOMER)["dht.peer_found"] >= 1
        assert balances(stack, NEWCOMER) == {"alice": 70, "bob": 30}
