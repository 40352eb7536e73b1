from __future__ import annotations

import pytest
from small_world import WORLD_ID, SmallWorld, open_world, small_genesis, validator_key

from agent_world.consensus.evidence import make_evidence
from agent_world.crypto.hashing import hash32
from agent_world.crypto.signing import Domain, sign_record
from agent_world.wire import record
from agent_world.wire.consensus import Step, Vote
from agent_world.wire.ids import U32, U64, ValidatorId
from agent_world.wire.lease import AcquireLease
from agent_world.wire.membership import ChangeKind, MembershipApproval, MembershipChange
from agent_world.world.epochs import epoch_of_next
from agent_world.world.validator_views import SetView, validators_view

V3, V4 = validator_key(3), validator_key(4)
REMOVE_V1 = MembershipChange(
    kind=ChangeKind.REMOVE, validators=(), removed=(ValidatorId("v1"),), with_lease=False, reason=None
)


@pytest.fixture
def world() -> SmallWorld:
    """Every block has the next slot, so epochs of four are the heights 1-3, 4-7, 8-11 ..."""
    return open_world(small_genesis(epoch_length_slots=4))


def names(shown: SetView | None) -> list[str] | None:
    return None if shown is None else [entry.validator_id for entry in shown.validators]


def test_a_new_world(world: SmallWorld) -> None:
    view = validators_view(world.state)
    assert (view.height, view.epoch, view.slots_to_boundary) == (0, 0, 3)
    assert (names(view.current), view.coming) == (["v1", "v2", "v3", "v4"], None)
    assert (view.current.total_stake, view.current.required_stake) == (100, 67)
    assert view.current.hash == world.state.validators_hash
    assert (view.changes, view.equivocations, view.newest_equivocations) == ((), 0, ())
    assert (view.lease_term, view.lease) == (0, None)


def test_the_boundary_comes_nearer_with_every_slot_until_the_epoch_ends(world: SmallWorld) -> None:
    for _height in range(12):
        view = validators_view(world.state)
        assert view.slots_to_boundary is not None
        last_slot = world.state.clock.slot + view.slots_to_boundary
        assert last_slot % 4 == 3
        assert view.epoch == epoch_of_next(world.state) == last_slot // 4
        world.commit()
    endless = open_world(small_genesis(epoch_length_slots=0))
    assert validators_view(endless.state).slots_to_boundary is None


def test_an_open_change_shows_the_stake_it_has(world: SmallWorld) -> None:
    action = world.sign(V4, REMOVE_V1)
    world.commit(action)
    (change,) = validators_view(world.state).changes
    assert (change.change_id, change.change.requester_id) == (action.action_id, "v4")
    assert (change.approved_stake, change.rejected_stake, change.required_stake) == (40, 0, 67)
    assert change.lapses_after_epoch == 2
    world.do(validator_key(1), MembershipApproval(change_id=action.action_id, approve=False))
    assert validators_view(world.state).changes[0].rejected_stake == 10
    world.do(V3, MembershipApproval(change_id=action.action_id, approve=True))
    view = validators_view(world.state)
    assert (view.changes, names(view.coming)) == ((), ["v2", "v3", "v4"])
    assert view.coming is not None
    assert view.coming.total_stake == 90


def test_evidence_and_the_lease_are_shown(world: SmallWorld) -> None:
    votes = [
        sign_record(
            Domain.VOTE,
            world.genesis_hash,
            Vote(world_id=WORLD_ID, height=U64(3), round=U32(1), step=Step.PREVOTE, block_hash=hash32(choice)),
            V4,
        )
        for choice in (b"a", b"b")
    ]
    assert world.do(V3, make_evidence(WORLD_ID, ValidatorId("v4"), *votes)) == "ok"
    assert world.do(V3, AcquireLease(ttl_ms=U64(5_000))) == "ok"
    view = validators_view(world.state)
    (found,) = view.newest_equivocations
    assert (view.equivocations, found.equivocation.validator_id) == (1, "v4")
    assert (found.place.key, found.place.height, found.place.round) == (V4.public_key, 3, 1)
    assert view.lease is not None
    assert (view.lease_term, view.lease.holder_id) == (1, "v3")
    assert isinstance(record.unstructure(view), dict)
