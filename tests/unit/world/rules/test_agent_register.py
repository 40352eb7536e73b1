from __future__ import annotations

import pytest
from small_world import AUTHORITY, SmallWorld, key

from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.wire import record
from agent_world.wire.action import RegisterAgent
from agent_world.wire.ids import U64, Name
from agent_world.wire.limits import U64_MAX
from agent_world.world.events import AgentRegistered
from agent_world.world.records import ACTORS, UNLIMITED_QUOTA, ActorRecord


def register(newcomer: KeyPair, quota: int = 0) -> RegisterAgent:
    return RegisterAgent(name=Name("new"), public_key=newcomer.public_key, registration_quota=U64(quota))


def quota_of(world: SmallWorld, who: KeyPair) -> int:
    found = world.state.get(ACTORS, actor_id_of(who.public_key))
    assert found is not None
    return found.registration_quota


def test_the_newcomer_and_its_event(world: SmallWorld, alice: KeyPair) -> None:
    sealed = world.commit(world.sign(AUTHORITY, register(alice, 3)))
    actor_id = actor_id_of(alice.public_key)
    assert world.state.get(ACTORS, actor_id) == ActorRecord(
        name=Name("new"),
        public_key=alice.public_key,
        nonce=U64(0),
        registration_quota=U64(3),
        storage_used_bytes=U64(0),
    )
    (event,) = sealed.execution.events
    assert event.kind == "agent.registered"
    assert record.from_bytes(AgentRegistered, event.payload_cbor, size_max=999) == AgentRegistered(
        actor_id=actor_id, name=Name("new"), sponsor=actor_id_of(AUTHORITY.public_key), registration_quota=U64(3)
    )


def test_the_authoritys_quota_never_falls(world: SmallWorld, alice: KeyPair) -> None:
    assert world.do(AUTHORITY, register(alice, U64_MAX - 1)) == "ok"
    assert quota_of(world, AUTHORITY) == UNLIMITED_QUOTA
    assert quota_of(world, alice) == U64_MAX - 1


def test_quota_moves_from_the_sponsor(world: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
    world.join(alice, quota=5)
    assert world.do(alice, register(bob, 2)) == "ok"
    assert (quota_of(world, alice), quota_of(world, bob)) == (2, 2)
    assert world.do(bob, register(key(50), 1)) == "ok"
    assert (quota_of(world, bob), quota_of(world, key(50))) == (0, 1)


@pytest.mark.parametrize(("has", "hands_over", "code"), [
    (0, 0, "insufficient_registration_quota"),
    (1, 0, "ok"),
    (2, 2, "insufficient_registration_quota"),
    (3, 2, "ok"),
    (3, U64_MAX - 1, "insufficient_registration_quota"),
    (3, U64_MAX, "unlimited_quota_reserved"),
])  # fmt: skip
def test_the_price_is_one_more_than_what_is_handed_over(
    world: SmallWorld, alice: KeyPair, bob: KeyPair, has: int, hands_over: int, code: str
) -> None:
    world.join(alice, quota=has)
    assert world.do(alice, register(bob, hands_over)) == code
    assert quota_of(world, alice) == (has - 1 - hands_over if code == "ok" else has)


def test_nobody_else_becomes_unlimited(world: SmallWorld, alice: KeyPair) -> None:
    assert world.do(AUTHORITY, register(alice, U64_MAX)) == "unlimited_quota_reserved"


def test_a_key_is_registered_once(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice, quota=5)
    assert world.do(AUTHORITY, register(alice, 9)) == "key_taken"
    assert world.do(alice, register(alice)) == "key_taken"
    assert world.do(alice, register(AUTHORITY)) == "key_taken"
    assert quota_of(world, alice) == 5
