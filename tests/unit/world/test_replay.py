from __future__ import annotations

import attrs
import pytest
from small_world import AUTHORITY, WORLD_ID, Blobs, SmallWorld

from agent_world.crypto.hashing import content_hash
from agent_world.crypto.keys import KeyPair
from agent_world.errors import ChainError, DecodeError
from agent_world.wire import record
from agent_world.wire.action import MoveAgent
from agent_world.wire.block import ActionList
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import I64, U64, Hash32, TimeMs, WorldId
from agent_world.wire.limits import BLOCK_ACTIONS_MAX, HEADER_BYTES_MAX
from agent_world.world.block import SealedBlock
from agent_world.world.genesis import genesis_head, initial_state
from agent_world.world.replay import action_hashes, check_header, open_actions, open_block, replay_block
from agent_world.world.state import WorldState
from agent_world.world.trie import NodeCache, NodeMissing

MOVE = MoveAgent(x_cm=I64(0), y_cm=I64(0), z_cm=I64(0))


@pytest.fixture
def town(world: SmallWorld, alice: KeyPair) -> SmallWorld:
    """Three committed blocks: alice joins, gets gold, and moves together with the authority."""
    world.join(alice, gold=5)
    world.commit(world.sign(alice, MOVE), world.sign(AUTHORITY, MOVE))
    return world


def bodies(sealed: SealedBlock) -> list[bytes]:
    return [sealed.blobs[digest] for digest in action_hashes(sealed.block, sealed.blobs.__getitem__)]


def test_a_newcomer_replays_the_chain_from_genesis(town: SmallWorld) -> None:
    store = Blobs(initial_state(town.genesis)[1])
    head, nodes = genesis_head(town.genesis), NodeCache(store)
    for sealed in town.sealed:
        actions = open_actions(bodies(sealed), sealed.block.height, WORLD_ID, town.genesis_hash)
        replayed = replay_block(head, sealed.data, actions, WorldState(head.state_root, nodes))
        assert replayed == sealed
        store.update(replayed.blobs)
        head = replayed.head
    assert head == town.head
    assert store == town.blobs


def test_a_missing_node_is_named(town: SmallWorld) -> None:
    last, parent = town.sealed[-1], town.sealed[-2].head
    actions = open_actions(bodies(last), 3, WORLD_ID, town.genesis_hash)
    del town.blobs[parent.state_root.digest]
    with pytest.raises(NodeMissing) as caught:
        replay_block(parent, last.data, actions, WorldState(parent.state_root, town.blobs))
    assert caught.value.content_hash == parent.state_root.digest


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("world_id", {"world_id": WorldId("w.other")}),
        ("height", {"height": U64(2)}),
        ("height", {"height": U64(4)}),
        ("prev_block_hash", {"prev_block_hash": Hash32(bytes(32))}),
        ("timestamp_ms", {"timestamp_ms": TimeMs(1_002_000)}),
    ],
)
def test_a_header_that_does_not_follow(town: SmallWorld, what: str, changes: dict[str, object]) -> None:
    last, parent = town.sealed[-1], town.sealed[-2].head
    check_header(parent, last.block)
    assert parent.timestamp_ms == 1_002_000
    wrong = attrs.evolve(last.block, **changes)
    for refuse in (
        lambda: check_header(parent, wrong),
        lambda: replay_block(parent, record.to_bytes(wrong), (), WorldState(parent.state_root, town.blobs)),
    ):
        with pytest.raises(ChainError) as caught:
            refuse()
        assert caught.value.what == what


def test_bytes_that_are_no_block(town: SmallWorld) -> None:
    for data in (b"", town.sealed[-1].data + b"\x00", bytes(HEADER_BYTES_MAX + 1)):
        with pytest.raises(DecodeError):
            open_block(data)


def test_an_action_that_is_not_admissible_is_named(town: SmallWorld) -> None:
    good = bodies(town.sealed[-1])
    bad = good[1][:-1] + bytes((good[1][-1] ^ 1,))
    with pytest.raises(ChainError, match=f"{content_hash(bad).hex()}: A"):
        open_actions([good[0], bad], 3, WORLD_ID, town.genesis_hash)
    with pytest.raises(ChainError, match="A6"):
        open_actions(good, 3, WORLD_ID, Hash32(bytes(32)))


def test_more_actions_than_a_block_holds(town: SmallWorld) -> None:
    with pytest.raises(ChainError, match="513 actions"):
        open_actions([b""] * (BLOCK_ACTIONS_MAX + 1), 3, WORLD_ID, town.genesis_hash)
    link = Cid(Codec.DAG_CBOR, content_hash(b""))
    listed = record.to_bytes(ActionList(actions=(link,) * (BLOCK_ACTIONS_MAX + 1)))
    with pytest.raises(ChainError, match="513 actions"):
        action_hashes(town.sealed[-1].block, lambda _: listed)
