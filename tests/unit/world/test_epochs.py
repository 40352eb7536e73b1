"""How validator sets follow each other: fixed by the parent, handed over at the end of an epoch (D4)."""

from __future__ import annotations

import pytest
from small_world import SmallWorld, key, open_world, small_genesis, validator_key

from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.wire import record
from agent_world.wire.consensus import ValidatorEntry
from agent_world.wire.ids import U64, Hash32, ValidatorId
from agent_world.wire.membership import ChangeKind, MembershipApproval, MembershipChange
from agent_world.world.epochs import (
    CHANGE_EPOCHS_MAX,
    coming_validators,
    epoch_of_next,
    handover,
    height_context,
    key_owners,
    open_changes,
    put_coming,
    seat_validators,
)
from agent_world.world.events import MembershipDecided, ValidatorsChanged
from agent_world.world.records import ACTORS, NEXT_VALIDATORS, VALIDATORS

V3, V4 = validator_key(3), validator_key(4)


@pytest.fixture
def world() -> SmallWorld:
    """Every block has the next slot, so epochs of four are the heights 1-3, 4-7, 8-11 ..."""
    return open_world(small_genesis(epoch_length_slots=4))


def remove(name: str) -> MembershipChange:
    return MembershipChange(
        kind=ChangeKind.REMOVE, validators=(), removed=(ValidatorId(name),), with_lease=False, reason=None
    )


def approved(world: SmallWorld, change: MembershipChange) -> Hash32:
    """File and approve a change in one block."""
    action = world.sign(V4, change)
    world.commit(action, world.sign(V3, MembershipApproval(change_id=action.action_id, approve=True)))
    return action.action_id


def deciding(world: SmallWorld) -> list[str]:
    """Who decides the next height."""
    return [entry.validator_id for entry in world.state.need(VALIDATORS).validators]


def test_a_change_takes_effect_with_the_first_height_of_the_next_epoch(world: SmallWorld) -> None:
    approved(world, remove("v1"))
    for height in (2, 3):
        context = height_context(world.state, world.head.block_hash)
        assert (context.height, context.epoch, len(context.validators.record.validators)) == (height, 0, 4)
        assert context.next_validators_hash != context.validators.hash
        sealed = world.commit()
        assert sealed.block.next_validators_hash == context.next_set_after(sealed.block.slot)
    assert deciding(world) == ["v2", "v3", "v4"]
    assert world.state.get(NEXT_VALIDATORS) is None
    (event,) = world.sealed[-1].execution.events
    assert event.caused_by is None
    assert record.from_bytes(ValidatorsChanged, event.payload_cbor, size_max=99) == ValidatorsChanged(
        epoch=U64(1), validators_hash=ValidatorSet(world.state.need(VALIDATORS)).hash
    )
    assert height_context(world.state, world.head.block_hash).epoch == 1


def test_what_the_last_block_of_an_epoch_brings_about_counts_one_epoch_later(world: SmallWorld) -> None:
    approved(world, remove("v1"))
    world.commit()
    approved(world, remove("v2"))
    assert world.head.height == 3
    assert deciding(world) == ["v2", "v3", "v4"]
    assert [entry.validator_id for entry in coming_validators(world.state).validators] == ["v3", "v4"]
    for _ in range(3):
        world.commit()
        assert deciding(world) == ["v2", "v3", "v4"]
    world.commit()
    assert (world.head.height, deciding(world)) == (7, ["v3", "v4"])


def test_the_header_names_what_the_parent_has_fixed_in_every_round(world: SmallWorld) -> None:
    approved(world, remove("v1"))
    context = height_context(world.state, world.head.block_hash)
    assert handover(world.state, context.slot(0)).is_due is False
    late = handover(world.state, context.slot(1))
    assert (late.is_due, late.epoch, late.successor) == (True, 1, world.state.get(NEXT_VALIDATORS))
    assert context.next_set_after(context.slot(0)) == context.validators.hash
    assert context.next_set_after(context.slot(1)) == context.next_validators_hash


def test_a_known_set_is_used_again(world: SmallWorld) -> None:
    known = height_context(world.state, world.head.block_hash).validators
    world.commit()
    assert height_context(world.state, world.head.block_hash, known).validators is known
    approved(world, remove("v1"))
    world.commit()
    assert height_context(world.state, world.head.block_hash, known).validators is not known


def test_changes_that_nobody_decides_lapse(world: SmallWorld) -> None:
    world.commit(world.sign(validator_key(1), remove("v2")))
    while open_changes(world.state):
        world.commit()
        assert epoch_of_next(world.state) <= CHANGE_EPOCHS_MAX + 1
    (event,) = world.sealed[-1].execution.events
    end = record.from_bytes(MembershipDecided, event.payload_cbor, size_max=999)
    assert (end.approved, end.code) == (False, "change_lapsed")
    assert epoch_of_next(world.state) == CHANGE_EPOCHS_MAX + 1


def test_the_coming_set_is_kept_only_while_it_is_another_one(world: SmallWorld) -> None:
    state = world.state
    current = state.need(VALIDATORS)
    put_coming(state, current)
    assert state.get(NEXT_VALIDATORS) is None
    assert coming_validators(state) == current


def test_whose_keys_they_are(world: SmallWorld) -> None:
    state = world.state
    stranger = ValidatorEntry(validator_id=ValidatorId("x"), public_key=key(50).public_key, stake=U64(1))
    authority = ValidatorEntry(validator_id=ValidatorId("y"), public_key=world.genesis.authority, stake=U64(1))
    known = world.genesis.validators.validators[0]
    owners = key_owners(state, [stranger, authority, known])
    assert owners == {authority.public_key: "", known.public_key: "v1"}
    seat_validators(state, [stranger])
    assert key_owners(state, [stranger]) == {stranger.public_key: "x"}
    found = state.get(ACTORS, actor_id_of(stranger.public_key))
    assert found is not None
    assert found.name == "x"


def test_an_epoch_that_ends_without_a_change_changes_nothing(world: SmallWorld) -> None:
    before = hash32(record.to_bytes(world.state.need(VALIDATORS)))
    for _ in range(9):
        assert world.commit().block.next_validators_hash == before
    assert not any(sealed.execution.events for sealed in world.sealed)
