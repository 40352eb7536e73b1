from __future__ import annotations

from contextlib import suppress

import attrs
import pytest

from agent_world.crypto.hashing import cid_of, content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import BlobHashMismatch, BlobNotFound, ChainError, DecodeError, LocalError
from agent_world.wire import cbor, record
from agent_world.wire.block import NamespaceRoot, StateRoot
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.genesis import Genesis
from agent_world.wire.ids import U64, Label
from agent_world.world import state as state_module
from agent_world.world.records import (
    ACTORS,
    BALANCES,
    NAMESPACES,
    OBJECTS,
    RULES,
    SUPPLIES,
    SYSTEM,
    VALIDATORS,
    WORLD,
    BalanceRecord,
    ObjectRecord,
    SupplyRecord,
)
from agent_world.world.state import WorldState, empty_state, read_state_root, verify_state_proof
from agent_world.world.trie import NodeCache, NodeMissing

ACTOR = "a" * 32


def amount(units: int) -> BalanceRecord:
    return BalanceRecord(amount=U64(units))


class Store(dict[ContentHash, bytes]):
    def __call__(self, digest: ContentHash) -> bytes:
        if digest not in self:
            raise BlobNotFound(digest.hex())
        return self[digest]

    def flush(self, state: WorldState) -> Cid:
        root, new = state.flush()
        self.update(new)
        return root


@pytest.fixture
def blobs() -> Store:
    return Store(empty_state(NAMESPACES)[1])


@pytest.fixture
def state(blobs: Store) -> WorldState:
    return WorldState(empty_state(NAMESPACES)[0], blobs)


def test_a_write_is_seen_at_once_and_after_flush(state: WorldState, blobs: Store) -> None:
    before = state.root
    state.put(BALANCES, amount(5), ACTOR, "gold")
    assert state.get(BALANCES, ACTOR, "gold") == amount(5)
    root, new = state.flush()
    assert root == state.root != before
    blobs.update(new)
    again = WorldState(root, blobs)
    assert again.get(BALANCES, ACTOR, "gold") == amount(5)
    assert again.get(BALANCES, ACTOR, "silver") is None
    assert WorldState(before, blobs).get(BALANCES, ACTOR, "gold") is None


def test_what_was_read_before_a_write_is_not_remembered_after_it(state: WorldState, blobs: Store) -> None:
    assert state.get(BALANCES, ACTOR, "gold") is None
    state.put(BALANCES, amount(5), ACTOR, "gold")
    blobs.flush(state)
    assert state.get(BALANCES, ACTOR, "gold") == amount(5)
    state.delete(BALANCES, ACTOR, "gold")
    blobs.flush(state)
    assert state.get(BALANCES, ACTOR, "gold") is None


def test_deleting_gives_the_root_from_before(state: WorldState) -> None:
    before = state.root
    state.put(BALANCES, amount(5), ACTOR, "gold")
    state.flush()
    state.delete(BALANCES, ACTOR, "gold")
    assert state.get(BALANCES, ACTOR, "gold") is None
    assert state.flush()[0] == before


def test_flush_gives_only_what_is_new(state: WorldState) -> None:
    assert state.flush() == (state.root, {})
    state.put(BALANCES, amount(5), ACTOR, "gold")
    root, new = state.flush()
    assert new.keys() == {root.digest, state.roots[RULES].digest}
    assert all(content_hash(data) == digest for digest, data in new.items())
    state.put(BALANCES, amount(5), ACTOR, "gold")
    assert state.flush() == (root, {})


def test_writes_of_a_failed_transaction_are_gone(state: WorldState) -> None:
    state.put(BALANCES, amount(1), ACTOR, "gold")
    with suppress(ZeroDivisionError), state.transaction():
        state.put(BALANCES, amount(2), ACTOR, "gold")
        with state.transaction():
            state.put(SUPPLIES, SupplyRecord(amount=U64(9)), "gold")
        assert state.get(SUPPLIES, "gold") == SupplyRecord(amount=U64(9))
        raise ZeroDivisionError
    assert state.get(BALANCES, ACTOR, "gold") == amount(1)
    assert state.get(SUPPLIES, "gold") is None


def test_an_inner_failure_leaves_the_outer_writes(state: WorldState) -> None:
    with state.transaction():
        state.put(BALANCES, amount(2), ACTOR, "gold")
        with suppress(ZeroDivisionError), state.transaction():
            state.delete(BALANCES, ACTOR, "gold")
            assert state.get(BALANCES, ACTOR, "gold") is None
            raise ZeroDivisionError
    assert state.get(BALANCES, ACTOR, "gold") == amount(2)


def test_flush_and_fork_are_refused_at_the_wrong_time(state: WorldState) -> None:
    with state.transaction(), pytest.raises(LocalError, match="transaction"):
        state.flush()
    state.put(BALANCES, amount(2), ACTOR, "gold")
    with pytest.raises(LocalError, match="forked"):
        state.fork()


def test_a_fork_does_not_touch_the_original(state: WorldState) -> None:
    root = state.root
    fork = state.fork()
    fork.put(BALANCES, amount(2), ACTOR, "gold")
    fork.flush()
    assert fork.root != root == state.root
    assert state.get(BALANCES, ACTOR, "gold") is None
    assert fork.get(BALANCES, ACTOR, "gold") == amount(2)


def test_what_forks_read_is_shared_until_one_of_them_is_flushed(state: WorldState, blobs: Store) -> None:
    state.put(BALANCES, amount(1), ACTOR, "gold")
    blobs.flush(state)
    first, second = state.fork(), state.fork()
    assert first.get(BALANCES, ACTOR, "gold") is second.get(BALANCES, ACTOR, "gold")
    first.put(BALANCES, amount(2), ACTOR, "gold")
    blobs.flush(first)
    assert [each.get(BALANCES, ACTOR, "gold") for each in (state, second, first)] == [amount(1), amount(1), amount(2)]
    assert first.fork().get(BALANCES, ACTOR, "gold") == WorldState(first.root, blobs).get(BALANCES, ACTOR, "gold")


def test_forgetting_what_was_read_changes_nothing(
    state: WorldState, blobs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "READ_RECORDS_MAX", 4)
    for number in range(20):
        state.put(SUPPLIES, SupplyRecord(amount=U64(number)), f"r{number}")
    blobs.flush(state)
    reader = state.fork()
    assert [reader.get(SUPPLIES, f"r{number}") for number in range(20)] == [
        SupplyRecord(amount=U64(number)) for number in range(20)
    ]
    assert len(reader._read) <= 4


def test_what_a_sound_state_has_is_demanded(state: WorldState) -> None:
    with pytest.raises(ChainError, match="world"):
        state.need(WORLD)


def test_a_missing_node_is_named(state: WorldState, blobs: Store) -> None:
    for number in range(300):
        state.put(SUPPLIES, SupplyRecord(amount=U64(1)), f"r{number}")
    root, new = state.flush()
    blobs.update(new)
    del blobs[state.roots[RULES].digest]
    with pytest.raises(NodeMissing) as caught:
        WorldState(root, blobs).get(SUPPLIES, "r1")
    assert caught.value.content_hash == state.roots[RULES].digest


def test_a_damaged_root_is_noticed(state: WorldState, blobs: Store) -> None:
    blobs[state.root.digest] += b"\x00"
    with pytest.raises(BlobHashMismatch):
        WorldState(state.root, blobs)


def test_namespaces_must_ascend(state: WorldState) -> None:
    root = state.roots[RULES]
    for names in (("system", "rules"), ("rules", "rules")):
        content = StateRoot(namespaces=tuple(NamespaceRoot(name=Label(name), root=root) for name in names))
        with pytest.raises(DecodeError, match="T6"):
            read_state_root(record.to_bytes(content))


def test_a_record_that_is_not_of_its_table_is_a_decode_error(state: WorldState, blobs: Store) -> None:
    state.put(SUPPLIES, SupplyRecord(amount=U64(1)), "gold")
    root, new = state.flush()
    blobs.update(new)
    strange = attrs.evolve(WORLD, namespace=RULES, prefix="supply")
    with pytest.raises(DecodeError):
        WorldState(root, blobs).get(strange, "gold")


def test_rows_are_those_of_the_table(state: WorldState) -> None:
    state.put(BALANCES, amount(5), ACTOR, "gold/dust")
    state.put(SUPPLIES, SupplyRecord(amount=U64(5)), "gold/dust")
    state.flush()
    assert list(state.rows(BALANCES, 2)) == [((ACTOR, "gold/dust"), amount(5))]
    assert list(state.rows(SUPPLIES, 1)) == [(("gold/dust",), SupplyRecord(amount=U64(5)))]
    assert len(list(state.items(RULES))) == 2
    assert list(state.items(Label("nowhere"))) == []


class TestProof:
    @pytest.fixture(autouse=True)
    def gold(self, state: WorldState, blobs: Store) -> None:
        state.put(BALANCES, amount(5), ACTOR, "gold")
        blobs.flush(state)

    def test_of_a_value(self, state: WorldState) -> None:
        key = BALANCES.key(ACTOR, "gold")
        root, proof = state.root, state.prove(RULES, key)
        assert verify_state_proof(root, RULES, key, proof) == record.to_bytes(amount(5))

    def test_of_absence(self, state: WorldState) -> None:
        root, proof = state.root, state.prove(RULES, b"absent")
        assert verify_state_proof(root, RULES, b"absent", proof) is None

    def test_of_an_absent_namespace(self, state: WorldState) -> None:
        root, proof = state.root, state.prove(Label("nowhere"), b"k")
        assert verify_state_proof(root, Label("nowhere"), b"k", proof) is None
        with pytest.raises(DecodeError, match="T5"):
            verify_state_proof(root, Label("nowhere"), b"k", attrs.evolve(proof, nodes=(b"more",)))

    def test_of_another_namespace_or_state_does_not_hold(self, state: WorldState) -> None:
        key = BALANCES.key(ACTOR, "gold")
        before = empty_state(NAMESPACES)[0]
        root, proof = state.root, state.prove(RULES, key)
        with pytest.raises(DecodeError, match="T5"):
            verify_state_proof(root, SYSTEM, key, proof)
        with pytest.raises(DecodeError, match="T5"):
            verify_state_proof(before, RULES, key, proof)


def test_the_validators_hash_is_that_of_the_record(state: WorldState, genesis: Genesis) -> None:
    state.put(VALIDATORS, genesis.validators)
    assert state.validators_hash == hash32(record.to_bytes(genesis.validators))


def test_a_large_validator_set_stands_in_its_own_blob(state: WorldState, genesis: Genesis, blobs: Store) -> None:
    member = genesis.validators.validators[0]
    many = tuple(
        attrs.evolve(member, validator_id=f"v{number:03}", public_key=KeyPair(number.to_bytes(32, "big")).public_key)
        for number in range(256)
    )
    validators = attrs.evolve(genesis.validators, validators=many)
    state.put(VALIDATORS, validators)
    root, new = state.flush()
    assert content_hash(record.to_bytes(validators)) in new
    blobs.update(new)
    assert WorldState(root, NodeCache(blobs)).get(VALIDATORS) == validators


def test_links_inside_records_are_links_of_the_node(state: WorldState) -> None:
    content = cid_of(b"content")
    state.put(OBJECTS, ObjectRecord(owner=ACTOR, content=content, size_bytes=U64(1), created_at_height=U64(1)), "book")
    _, new = state.flush()
    assert content in cbor.links_of(cbor.decode(new[state.roots[RULES].digest], size_max=9_999))


def test_actors_are_found_by_their_own_key_only(state: WorldState) -> None:
    assert state.get(ACTORS, ACTOR) is None
