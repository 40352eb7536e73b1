from __future__ import annotations

import pytest
from small_world import SmallWorld, open_world, small_genesis, validator_key

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.wire import record
from agent_world.wire.ids import U64, ValidatorId
from agent_world.wire.lease import AcquireLease, LeaseState, ReleaseLease, RenewLease
from agent_world.wire.membership import ChangeKind, MembershipApproval, MembershipChange
from agent_world.world import queries
from agent_world.world.events import LeaseChanged
from agent_world.world.records import LEASE

V1, V2 = validator_key(1), validator_key(2)


def current(world: SmallWorld) -> LeaseState:
    found = world.state.get(LEASE)
    assert found is not None
    assert found.lease is not None
    return found.lease


def acquire(ttl_ms: int = 5_000) -> AcquireLease:
    return AcquireLease(ttl_ms=U64(ttl_ms))


def test_a_validator_takes_the_lease_and_its_term_stands_in_the_block(world: SmallWorld) -> None:
    assert world.seal([]).block.lease_term == 0
    assert world.do(V1, acquire()) == "ok"
    held = current(world)
    assert (held.holder_id, held.term, held.acquired_at_ms) == ("v1", 1, world.head.timestamp_ms)
    assert held.expires_at_ms == world.head.timestamp_ms + 5_000
    sealed = world.sealed[-1]
    assert sealed.block.lease_term == 1
    (event,) = sealed.execution.events
    assert record.from_bytes(LeaseChanged, event.payload_cbor, size_max=999) == LeaseChanged(
        term=U64(1), holder_id=held.holder_id, expires_at_ms=held.expires_at_ms
    )


def test_it_is_taken_over_only_when_it_has_run_out_by_block_time(world: SmallWorld) -> None:
    assert world.do(V1, acquire()) == "ok"
    assert world.do(V2, acquire(), after_ms=4_999) == "lease_held"
    assert world.do(V2, acquire(), after_ms=1) == "ok"
    assert (current(world).holder_id, current(world).term) == ("v2", 2)
    assert world.do(V1, RenewLease(lease_id=current(world).lease_id, ttl_ms=U64(9))) == "lease_not_yours"


def test_its_holder_renews_and_gives_it_up_and_no_term_comes_twice(world: SmallWorld) -> None:
    assert world.do(V1, acquire()) == "ok"
    lease_id = current(world).lease_id
    assert world.do(V1, RenewLease(lease_id=lease_id, ttl_ms=U64(7_000))) == "ok"
    assert current(world).expires_at_ms == world.head.timestamp_ms + 7_000
    assert world.do(V2, ReleaseLease(lease_id=lease_id)) == "lease_not_yours"
    assert world.do(V1, ReleaseLease(lease_id=hash32(b"another"))) == "lease_id_differs"
    assert world.do(V1, ReleaseLease(lease_id=lease_id)) == "ok"
    found = world.state.get(LEASE)
    assert found is not None
    assert (found.term, found.lease) == (1, None)
    assert world.do(V1, ReleaseLease(lease_id=lease_id)) == "lease_not_held"
    assert world.do(V1, RenewLease(lease_id=lease_id, ttl_ms=U64(1))) == "lease_not_held"
    assert world.do(V1, acquire()) == "ok"
    assert world.sealed[-1].block.lease_term == 2


@pytest.mark.parametrize(("ttl_ms", "code"), [(0, "lease_ttl_not_positive"), (600_000, "ok"),
                                              (600_001, "lease_ttl_too_long")])  # fmt: skip
def test_how_long_a_lease_may_be(world: SmallWorld, ttl_ms: int, code: str) -> None:
    assert world.do(V1, acquire(ttl_ms)) == code


def test_only_validators_may_hold_it(world: SmallWorld, alice: KeyPair, authority: KeyPair) -> None:
    world.join(alice)
    for who in (alice, authority):
        assert world.do(who, acquire()) == "not_a_validator"
    assert world.do(V1, acquire()) == "ok"
    assert world.do(alice, RenewLease(lease_id=current(world).lease_id, ttl_ms=U64(1))) == "not_a_validator"


def test_who_loses_its_seat_does_not_keep_the_lease_from_the_others() -> None:
    world = open_world(small_genesis(epoch_length_slots=4))
    assert world.do(V1, acquire(600_000)) == "ok"
    leave = MembershipChange(
        kind=ChangeKind.REMOVE, validators=(), removed=(ValidatorId("v1"),), with_lease=False, reason=None
    )
    action = world.sign(validator_key(4), leave)
    world.commit(action, world.sign(validator_key(3), MembershipApproval(change_id=action.action_id, approve=True)))
    assert world.do(V2, acquire()) == "lease_held"
    assert queries.held_lease(world.state, world.head.timestamp_ms) is None  # the epoch is over
    renewed = RenewLease(lease_id=current(world).lease_id, ttl_ms=U64(9_000))
    assert world.do(V1, renewed) == "not_a_validator"
    assert world.do(V2, acquire()) == "ok"
    assert (current(world).holder_id, current(world).term) == ("v2", 2)
    assert queries.held_lease(world.state, world.head.timestamp_ms) == current(world)
