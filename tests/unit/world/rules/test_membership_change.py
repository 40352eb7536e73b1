from __future__ import annotations

import pytest
from small_world import SmallWorld, key, open_world, small_genesis, validator_key

from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.wire import record
from agent_world.wire.consensus import ValidatorEntry
from agent_world.wire.ids import U64, Hash32, ValidatorId
from agent_world.wire.lease import AcquireLease
from agent_world.wire.limits import CHANGES_OPEN_MAX
from agent_world.wire.membership import ChangeKind, MembershipApproval, MembershipChange
from agent_world.world.events import MembershipDecided, MembershipFiled
from agent_world.world.records import ACTORS, CHANGES, KEY_OWNERS, NEXT_VALIDATORS, VALIDATORS

V1, V2, V3, V4 = (validator_key(number) for number in (1, 2, 3, 4))
NEWCOMER = key(77)


def add(name: str = "v5", who: KeyPair = NEWCOMER, *, stake: int = 5, with_lease: bool = False) -> MembershipChange:
    entry = ValidatorEntry(validator_id=ValidatorId(name), public_key=who.public_key, stake=U64(stake))
    return MembershipChange(kind=ChangeKind.ADD, validators=(entry,), removed=(), with_lease=with_lease, reason=None)


def remove(*names: str) -> MembershipChange:
    return MembershipChange(
        kind=ChangeKind.REMOVE,
        validators=(),
        removed=tuple(ValidatorId(name) for name in names),
        with_lease=False,
        reason=None,
    )


def file(world: SmallWorld, who: KeyPair, change: MembershipChange) -> Hash32:
    action = world.sign(who, change)
    assert world.commit(action).execution.receipts[0].code == "ok"
    return action.action_id


def say(change_id: Hash32, *, approve: bool = True) -> MembershipApproval:
    return MembershipApproval(change_id=change_id, approve=approve)


def coming(world: SmallWorld) -> list[str] | None:
    found = world.state.get(NEXT_VALIDATORS)
    return None if found is None else [entry.validator_id for entry in found.validators]


def decided(world: SmallWorld) -> list[MembershipDecided]:
    return [
        record.from_bytes(MembershipDecided, event.payload_cbor, size_max=999)
        for event in world.sealed[-1].execution.events
        if event.kind == "membership.decided"
    ]


@pytest.fixture
def world() -> SmallWorld:
    """Stakes 10, 20, 30, 40; 67 decide. Epochs of a million slots: none ends here."""
    return open_world(small_genesis(epoch_length_slots=1_000_000))


def test_a_change_waits_until_the_required_stake_has_approved(world: SmallWorld) -> None:
    change_id = file(world, V1, add())
    (event,) = world.sealed[-1].execution.events
    assert record.from_bytes(MembershipFiled, event.payload_cbor, size_max=999) == MembershipFiled(
        change_id=change_id, requester_id=ValidatorId("v1")
    )
    assert world.do(V2, say(change_id)) == "ok"
    assert world.do(V3, say(change_id)) == "ok"
    assert coming(world) is None
    assert world.do(V4, say(change_id)) == "ok"
    assert coming(world) == ["v1", "v2", "v3", "v4", "v5"]
    assert decided(world) == [MembershipDecided(change_id=change_id, approved=True, code="ok")]  # type: ignore[arg-type]
    assert [entry.validator_id for entry in world.state.need(VALIDATORS).validators] == ["v1", "v2", "v3", "v4"]
    assert world.do(V1, say(change_id)) == "change_unknown"
    assert world.state.get(CHANGES, change_id.hex()) is None


def test_a_newcomers_key_may_act_once_the_change_is_approved(world: SmallWorld) -> None:
    actor_id = actor_id_of(NEWCOMER.public_key)
    change_id = file(world, V4, add())
    assert world.state.get(ACTORS, actor_id) is None
    assert world.do(V3, say(change_id)) == "ok"
    found = world.state.get(ACTORS, actor_id)
    assert found is not None
    assert (found.name, found.registration_quota) == ("v5", 0)
    owner = world.state.get(KEY_OWNERS, NEWCOMER.public_key.hex())
    assert owner is not None
    assert owner.validator_id == "v5"
    assert world.do(NEWCOMER, remove("v1")) == "not_a_validator"  # it is none before its epoch


def test_too_much_stake_against_it_ends_a_change(world: SmallWorld) -> None:
    change_id = file(world, V1, add())
    assert world.do(V3, say(change_id, approve=False)) == "ok"
    assert not decided(world)
    assert world.do(V2, say(change_id, approve=False)) == "ok"
    (end,) = decided(world)
    assert (end.approved, end.code) == (False, "change_rejected")
    assert world.do(V4, say(change_id)) == "change_unknown"


def test_a_validator_may_change_its_mind_and_counts_once(world: SmallWorld) -> None:
    change_id = file(world, V4, add())
    for _ in range(3):
        assert world.do(V2, say(change_id)) == "ok"
        assert coming(world) is None
    assert world.do(V4, say(change_id, approve=False)) == "ok"
    assert decided(world)[0].code == "change_rejected"


def test_approved_changes_follow_each_other(world: SmallWorld) -> None:
    first, second = file(world, V4, remove("v1")), file(world, V4, remove("v1"))
    third = file(world, V4, add())
    for change_id in (first, third, second):
        assert world.do(V3, say(change_id)) == "ok"
    assert coming(world) == ["v2", "v3", "v4", "v5"]
    (end,) = decided(world)
    assert (end.approved, end.code) == (False, "validator_unknown")


def test_undoing_an_approved_change_leaves_nothing_to_come(world: SmallWorld) -> None:
    for change in (add(), remove("v5")):
        change_id = file(world, V4, change)
        assert world.do(V3, say(change_id)) == "ok"
    assert coming(world) is None


def test_only_members_file_and_approve(world: SmallWorld, alice: KeyPair, authority: KeyPair) -> None:
    world.join(alice)
    change_id = file(world, V1, add())
    for who in (alice, authority):
        assert world.do(who, add("v6", key(78))) == "not_a_validator"
        assert world.do(who, say(change_id)) == "not_a_validator"


def test_what_does_not_fit_is_refused_when_it_is_filed(world: SmallWorld, authority: KeyPair) -> None:
    assert world.do(V1, add("v4")) == "validator_exists"
    assert world.do(V1, remove("v9")) == "validator_unknown"
    assert world.do(V1, remove("v1", "v2", "v3", "v4")) == "validator_set_invalid"
    assert world.do(V1, add("v5", V4)) == "validator_key_in_use"
    assert world.do(V1, add("v5", authority)) == "validator_key_in_use"
    assert world.do(V1, say(hash32(b"no change"))) == "change_unknown"


def test_the_number_of_open_changes_is_bounded(world: SmallWorld) -> None:
    for number in range(CHANGES_OPEN_MAX):
        file(world, V1, add(f"n{number}", key(100 + number)))
    assert world.do(V2, add("more", key(300))) == "too_many_changes"


def test_with_the_lease_only_its_holder_files(world: SmallWorld) -> None:
    assert world.do(V1, add(with_lease=True)) == "lease_not_held"
    assert world.do(V1, AcquireLease(ttl_ms=U64(5_000))) == "ok"
    assert world.do(V2, add(with_lease=True)) == "lease_not_yours"
    assert world.do(V1, add(with_lease=True)) == "ok"
    assert world.do(V1, add("v6", key(78), with_lease=True), after_ms=9_000) == "lease_not_held"
