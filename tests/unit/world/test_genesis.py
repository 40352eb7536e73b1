from __future__ import annotations

import re

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import small_genesis

from agent_world.crypto.hashing import actor_id_of, content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import UsageError
from agent_world.wire import cbor, record
from agent_world.wire.genesis import Genesis
from agent_world.wire.ids import U64, ValidatorId
from agent_world.wire.limits import U64_MAX
from agent_world.world.genesis import (
    AUTHORITY_NAME,
    check_genesis,
    genesis_hash,
    genesis_head,
    genesis_toml,
    initial_state,
    parse_genesis,
)
from agent_world.world.records import ACTORS, NAMESPACES, UNLIMITED_QUOTA, VALIDATORS
from agent_world.world.state import WorldState


def test_the_file_gives_the_genesis_back(genesis: Genesis) -> None:
    assert parse_genesis(genesis_toml(genesis), "g.toml") == genesis


SMALL = small_genesis()


@given(stakes=st.lists(st.integers(1, 2**58), min_size=1, max_size=20), time=st.integers(0, 2**63 - 1))
@settings(deadline=None, max_examples=25)
def test_round_trip_of_any_set(stakes: list[int], time: int) -> None:
    member = SMALL.validators.validators[0]
    members = tuple(
        attrs.evolve(
            member,
            validator_id=ValidatorId(f"v{number:02}"),
            public_key=KeyPair((100 + number).to_bytes(32, "big")).public_key,
            stake=U64(stake),
        )
        for number, stake in enumerate(stakes)
    )
    genesis = attrs.evolve(SMALL, genesis_time_ms=time, validators=attrs.evolve(SMALL.validators, validators=members))
    assert parse_genesis(genesis_toml(genesis), "g.toml") == genesis


def test_the_order_of_validators_in_the_file_does_not_matter(genesis: Genesis) -> None:
    head, *tables = genesis_toml(genesis).split("[[validators]]")
    text = "[[validators]]".join([head, *(table.rstrip() + "\n\n" for table in reversed(tables))])
    assert parse_genesis(text, "g.toml") == genesis


@pytest.mark.parametrize(
    ("pattern", "replacement", "says"),
    [
        (r'world_id = "w.test"', "", "world_id: missing; add it"),
        (r'world_id = "w.test"', 'world_id = "W T"', "world_id: 'W T' is not an id"),
        (r'world_id = "w.test"', "world_id = 7", "world_id: expected text"),
        (r"genesis_time_ms = \d+", "genesis_time_ms = -1", "genesis_time_ms: -1 is not an integer in"),
        (r"genesis_time_ms = \d+", "genesis_time_ms = 1.5", "genesis_time_ms: 1.5 is not an integer"),
        (r'authority = "\w+"', 'authority = "00"', "authority: write an Ed25519 public key as 64"),
        (r'authority = "\w+"', "authority = 5", "authority: write an Ed25519 public key as 64"),
        (r'authority = "\w+"', f'authority = "{"AB" * 32}"', "authority: write an Ed25519 public key as 64"),
        (r"epoch_length_slots = 32", "epoch_length_slots = 0", "epoch_length_slots must be above 0"),
        (r"\[params\]", "[parameters]", "parameters: unknown key; known here: world_id"),
        (r"move_speed_max_cm_per_s = 500", "move_speed = 5", "params.move_speed: unknown key"),
        (r"actor_storage_quota_bytes = \d+", "", "params.actor_storage_quota_bytes: missing"),
        (r"\nnumerator = 2\n", "\nnumerator = 4\n", "supermajority: numerator/denominator must be"),
        (r"\ndenominator = 3", "\ndenominator = 4", "supermajority: numerator/denominator must be"),
        (r"\ndenominator = 3", "\ndenominator = 0", "supermajority: numerator/denominator must be"),
        (r"stake = 10\n", "stake = 0\n", "every stake must be above 0"),
        (r"stake = 10\n", f"stake = {U64_MAX}\n", "the stakes add up to more than 2^64-1"),
        (r"stake = 10\n", 'stake = "10"\n', "validators[0].stake: '10' is not an integer"),
        (r"stake = 20\n", "", "validators[1].stake: missing"),
        (r'validator_id = "v2"', 'validator_id = "v1"', "every validator_id must be there once"),
        (r'validator_id = "v2"', 'validator_id = ""', "validators[1].validator_id: '' is not an id"),
        (r"\[\[validators\]\][\s\S]*", "", "validators: missing"),
        (r"\[\[validators\]\][\s\S]*", "[validators]\na = 1\n", "validators: write one [[validators]] table"),
        (r"epoch_length_slots = 32", "epoch_length_slots = = 32", "not TOML"),
    ],
)
def test_errors_name_the_file_the_key_and_what_to_do(
    genesis: Genesis, pattern: str, replacement: str, says: str
) -> None:
    text = genesis_toml(genesis)
    broken = re.sub(pattern, replacement, text, count=1)
    assert broken != text
    with pytest.raises(UsageError) as caught:
        parse_genesis(broken, "g.toml")
    assert str(caught.value).startswith("g.toml: ")
    assert says in str(caught.value)


def test_no_validators_at_all(genesis: Genesis) -> None:
    empty = attrs.evolve(genesis, validators=attrs.evolve(genesis.validators, validators=()))
    with pytest.raises(UsageError, match="name 1 to 256"):
        check_genesis(empty, "g.toml")


@pytest.mark.parametrize("which", ["shared", "authority"])
def test_keys_are_not_shared(genesis: Genesis, which: str) -> None:
    first, second, *rest = genesis.validators.validators
    stolen = first.public_key if which == "shared" else genesis.authority
    members = (first, attrs.evolve(second, public_key=stolen), *rest)
    with pytest.raises(UsageError, match="public_key" if which == "shared" else "authority"):
        check_genesis(attrs.evolve(genesis, validators=attrs.evolve(genesis.validators, validators=members)), "g")


def test_the_hash_is_of_the_record(genesis: Genesis) -> None:
    assert genesis_hash(genesis) == hash32(record.to_bytes(genesis))
    assert genesis_hash(attrs.evolve(genesis, genesis_time_ms=genesis.genesis_time_ms + 1)) != genesis_hash(genesis)


def test_the_initial_state_is_complete_and_nothing_more(genesis: Genesis) -> None:
    root, blobs = initial_state(genesis)
    assert all(content_hash(data) == digest for digest, data in blobs.items())
    reached, todo = set(), [root.digest]
    while todo:
        digest = todo.pop()
        reached.add(digest)
        todo += [link.digest for link in cbor.links_of(cbor.decode(blobs[digest], size_max=1 << 20))]
    assert reached == blobs.keys()
    state = WorldState(root, blobs.__getitem__)
    assert tuple(state.roots) == NAMESPACES
    assert state.world.genesis_hash == genesis_hash(genesis)
    assert state.world.params == genesis.params
    assert (state.clock.height, state.clock.timestamp_ms, state.clock.last_event_id) == (0, 1_000_000, 0)
    assert state.get(VALIDATORS) == genesis.validators
    authority = state.get(ACTORS, actor_id_of(genesis.authority))
    assert authority is not None
    assert (authority.name, authority.public_key, authority.nonce) == (AUTHORITY_NAME, genesis.authority, 0)
    assert authority.registration_quota == UNLIMITED_QUOTA


def test_the_first_head(genesis: Genesis) -> None:
    head = genesis_head(genesis)
    assert (head.world_id, head.height, head.timestamp_ms) == (genesis.world_id, 0, genesis.genesis_time_ms)
    assert head.block_hash == genesis_hash(genesis)
    assert head.state_root == initial_state(genesis)[0]
