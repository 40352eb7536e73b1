"""world/snapshot.py: every node of a state is in one pack, in packs that fit, the same on every node."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import BlobNotFound, DecodeError
from agent_world.wire import record
from agent_world.wire.block import NamespaceRoot, StateRoot
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import U64, Label, Name
from agent_world.wire.limits import CHUNK_BYTES
from agent_world.world.records import BALANCES, OBJECTS, BalanceRecord, ObjectRecord
from agent_world.world.snapshot import encode_pack, open_pack, plan_packs, state_blobs
from agent_world.world.state import WorldState, empty_state
from agent_world.world.trie import Blobs, NodeCache, Trie

ACTOR = "a" * 32


def state_of(count: int) -> tuple[WorldState, Blobs]:
    root, blobs = empty_state([Label("rules"), Label("system")])
    state = WorldState(root, blobs.__getitem__)
    for number in range(count):
        state.put(BALANCES, BalanceRecord(amount=U64(number)), ACTOR, f"coin{number}")
    content = cid_of(b"what an object links to is no part of the state")
    state.put(
        OBJECTS, ObjectRecord(owner=ACTOR, content=content, size_bytes=U64(1), created_at_height=U64(1)), Name("o")
    )
    blobs.update(state.flush()[1])
    return state, blobs


def test_the_packs_hold_exactly_the_state() -> None:
    state, blobs = state_of(9_000)
    plans = [plan for plan in plan_packs(state.root, blobs.__getitem__) if plan is not None]
    assert len(plans) > 2
    restored: Blobs = {}
    for plan in plans:
        pack = encode_pack([blobs[digest] for digest in plan.nodes])
        assert (cid_of(pack), len(pack)) == (plan.content, plan.size_bytes)
        assert len(pack) <= CHUNK_BYTES
        opened = open_pack(pack)
        assert not restored.keys() & opened.keys(), "each node once"
        restored.update(opened)
    assert restored == dict(state_blobs(state.root, blobs.__getitem__))
    again = WorldState(state.root, restored.__getitem__)
    assert list(again.items(Label("rules"))) == list(state.items(Label("rules")))
    assert all(plan.size_bytes > CHUNK_BYTES * 3 // 4 for plan in plans[:-1]), "packs are full"


def test_equal_states_give_equal_packs_whatever_their_history() -> None:
    one, blobs = state_of(50)
    two, more = state_of(50)
    two.put(BALANCES, BalanceRecord(amount=U64(7)), ACTOR, "gone")
    more.update(two.flush()[1])
    two.delete(BALANCES, ACTOR, "gone")
    more.update(two.flush()[1])
    assert list(plan_packs(one.root, blobs.__getitem__)) == list(plan_packs(two.root, more.__getitem__))


def test_large_values_travel_with_the_state_and_those_above_a_pack_are_left_out() -> None:
    nodes: Blobs = {}
    root, blobs = Trie(None, NodeCache(nodes.__getitem__)).update({b"k": "x" * 5_000, b"l": "y" * CHUNK_BYTES}).flush()
    nodes.update(blobs)
    data = record.to_bytes(StateRoot(namespaces=(NamespaceRoot(name=Label("rules"), root=root),)))
    nodes[content_hash(data)] = data
    plans = [plan for plan in plan_packs(cid_of(data), nodes.__getitem__) if plan is not None]
    packed = [digest for plan in plans for digest in plan.nodes]
    assert sorted(len(nodes[digest]) > 5_000 for digest in packed) == [False, False, True]
    assert len(dict(state_blobs(cid_of(data), nodes.__getitem__))) == 4


def test_a_missing_node_ends_it() -> None:
    state, blobs = state_of(500)

    def get(digest: ContentHash) -> bytes:
        if digest in list(blobs)[5:]:
            raise BlobNotFound(digest.hex())
        return blobs[digest]

    with pytest.raises(BlobNotFound):
        list(plan_packs(state.root, get))


def test_t9_what_is_no_pack() -> None:
    with pytest.raises(DecodeError) as caught:
        open_pack(encode_pack([bytes(CHUNK_BYTES)]))
    assert caught.value.rule == "T9"
    with pytest.raises(DecodeError):
        open_pack(b"\xa0")


def _rebuilt(packs: list[bytes]) -> Blobs:
    """What whoever restores a state has: the blobs of all packs, each under the hash of its own bytes."""
    found: Blobs = {}
    for pack in packs:
        found.update(open_pack(pack))
    return found


def _whole(root: Cid, blobs: Blobs) -> dict[ContentHash, bytes]:
    return dict(state_blobs(root, blobs.__getitem__))


def test_a_state_is_put_together_from_its_packs_and_from_nothing_else() -> None:  # T-2.13, T-2.14
    state, blobs = state_of(9_000)
    plans = [plan for plan in plan_packs(state.root, blobs.__getitem__) if plan is not None]
    packs = [encode_pack([blobs[digest] for digest in plan.nodes]) for plan in plans]
    whole = _whole(state.root, blobs)
    assert _whole(state.root, _rebuilt(packs[::-1])) == whole, "the order of packs decides nothing"
    for number in range(len(packs)):
        with pytest.raises(KeyError):
            _whole(state.root, _rebuilt(packs[:number] + packs[number + 1 :]))
    other, more = state_of(10)
    with pytest.raises(KeyError):  # another state root
        _whole(other.root, _rebuilt(packs))
    with pytest.raises(KeyError):  # a pack of another state in the place of one
        _whole(state.root, _rebuilt([encode_pack(list(_whole(other.root, more).values())), *packs[1:]]))


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_pack_that_was_cut_or_changed_gives_no_other_state(place: float, bit: int, cut: bool) -> None:  # T-2.14
    state, blobs = state_of(50)
    whole = _whole(state.root, blobs)
    pack = encode_pack(list(whole.values()))
    at = int(place * len(pack))
    changed = pack[:at] if cut else pack[:at] + bytes([pack[at] ^ 1 << bit]) + pack[at + 1 :]
    try:
        found = _rebuilt([changed])
    except DecodeError:
        return
    with pytest.raises(KeyError):  # the node that was changed is not there by its name
        _whole(state.root, found)
