from __future__ import annotations

import attrs
import pytest
from small_world import AUTHORITY, WORLD_ID, SmallWorld

from agent_world.crypto.hashing import cid_of, content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import ChainError
from agent_world.wire import cbor, record
from agent_world.wire.action import MoveAgent
from agent_world.wire.block import ActionList, ReceiptList
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import I64, U32, U64, Hash32, TimeMs, ValidatorId
from agent_world.wire.limits import HEADER_BYTES_MAX
from agent_world.world.admission import SignedAction
from agent_world.world.block import SealedBlock, Seat, assemble_block, head_of, verify_execution
from agent_world.world.journal import assemble_journal

MOVE = MoveAgent(x_cm=I64(0), y_cm=I64(0), z_cm=I64(0))


@pytest.fixture
def actions(world: SmallWorld, alice: KeyPair) -> list[SignedAction]:
    world.join(alice, gold=5)
    return [world.sign(alice, MOVE), world.sign(AUTHORITY, MOVE), world.sign(alice, MOVE)]


@pytest.fixture
def sealed(world: SmallWorld, actions: list[SignedAction]) -> SealedBlock:
    return world.seal(actions)


def test_the_header(world: SmallWorld, actions: list[SignedAction]) -> None:
    seat = Seat(round=U32(4), epoch=U64(2), proposer_id=ValidatorId("v3"))
    execution = world.execute(actions, after_ms=7)
    sealed = assemble_block(world.head, seat, actions, execution)
    block = sealed.block
    assert (block.slot, block.round, block.epoch, block.proposer_id) == (3, 4, 2, "v3")
    assert (block.world_id, block.height, block.prev_block_hash) == (WORLD_ID, 3, world.head.block_hash)
    assert block.timestamp_ms == world.head.timestamp_ms + 7
    assert block.validators_hash == block.next_validators_hash == world.state.validators_hash
    assert block.state_root == execution.state_root
    assert sealed.data == record.to_bytes(block)
    assert sealed.block_hash == hash32(sealed.data)
    assert sealed.head == head_of(block, sealed.block_hash)
    assert (sealed.head.height, sealed.head.state_root) == (3, block.state_root)


def test_what_the_header_links_is_in_the_blobs(actions: list[SignedAction], sealed: SealedBlock) -> None:
    block, blobs = sealed.block, sealed.blobs
    assert all(content_hash(data) == digest for digest, data in blobs.items())
    listed = record.from_bytes(ActionList, blobs[block.action_root.digest], size_max=1 << 20).actions
    assert [blobs[link.digest] for link in listed] == [action.data for action in actions]
    receipts = record.from_bytes(ReceiptList, blobs[block.receipts_root.digest], size_max=1 << 20).receipts
    assert receipts == sealed.execution.receipts
    assert assemble_journal(block.journal_ref, 3, blobs.__getitem__) == sealed.execution.events
    assert block.state_root.digest in blobs


def test_every_link_is_reachable_from_parent_and_block(world: SmallWorld, sealed: SealedBlock) -> None:
    """Nothing that a storage node finds by links is missing, and nothing in the blobs is unreachable."""
    known = {**world.blobs, **sealed.blobs}
    todo, reached = [link.digest for link in cbor.links_of(record.unstructure(sealed.block))], set[ContentHash]()
    while todo:
        digest = todo.pop()
        if digest not in reached:
            reached.add(digest)
            todo += [link.digest for link in cbor.links_of(cbor.decode(known[digest], size_max=1 << 20))]
    assert reached >= sealed.blobs.keys()


def test_an_honest_block_verifies_and_gives_the_same(
    world: SmallWorld, actions: list[SignedAction], sealed: SealedBlock
) -> None:
    assert verify_execution(sealed.block, actions, world.state) == sealed


OTHER = cid_of(b"other")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("action_root", OTHER),
        ("event_root", Hash32(bytes(32))),
        ("receipts_root", OTHER),
        ("journal_ref", OTHER),
        ("state_root", OTHER),
        ("validators_hash", Hash32(bytes(32))),
        ("next_validators_hash", Hash32(bytes(32))),
    ],
)
def test_each_false_claim_is_named(
    world: SmallWorld, actions: list[SignedAction], sealed: SealedBlock, name: str, value: object
) -> None:
    block = attrs.evolve(sealed.block, **{name: value})
    with pytest.raises(ChainError) as caught:
        verify_execution(block, actions, world.state)
    assert (caught.value.height, caught.value.what) == (3, name)


def test_other_actions_are_noticed_before_they_are_executed(
    world: SmallWorld, actions: list[SignedAction], sealed: SealedBlock
) -> None:
    for others in ([], actions[:2], actions[::-1], [*actions, actions[0]]):
        with pytest.raises(ChainError) as caught:
            verify_execution(sealed.block, others, world.state)
        assert caught.value.what == "action_root"


def test_another_time_gives_another_state(world: SmallWorld, actions: list[SignedAction], sealed: SealedBlock) -> None:
    later = attrs.evolve(sealed.block, timestamp_ms=TimeMs(sealed.block.timestamp_ms + 1))
    with pytest.raises(ChainError, match="state_root"):
        verify_execution(later, actions, world.state)


def test_a_header_with_the_longest_names_fits(sealed: SealedBlock) -> None:
    largest = attrs.evolve(
        sealed.block, world_id="w" * 64, proposer_id="v" * 64, height=U64(2**64 - 1), slot=U64(2**64 - 1),
        epoch=U64(2**64 - 1), round=U32(2**32 - 1), timestamp_ms=TimeMs(2**63 - 1),
    )  # fmt: skip
    assert len(record.to_bytes(largest)) <= HEADER_BYTES_MAX
