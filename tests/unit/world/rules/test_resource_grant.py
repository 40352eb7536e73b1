from __future__ import annotations

import pytest
from small_world import AUTHORITY, SmallWorld

from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.wire import record
from agent_world.wire.action import GrantResource
from agent_world.wire.ids import U64, Name
from agent_world.wire.limits import U64_MAX
from agent_world.world import queries
from agent_world.world.events import ResourceGranted


def grant(to: KeyPair, amount: int, resource: str = "gold") -> GrantResource:
    return GrantResource(resource=Name(resource), to_actor_id=actor_id_of(to.public_key), amount=U64(amount))


def gold(world: SmallWorld, who: KeyPair) -> int:
    return queries.balance(world.state, actor_id_of(who.public_key), Name("gold"))


def test_grants_add_up(world: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
    world.join(alice)
    world.join(bob)
    assert world.do(AUTHORITY, grant(alice, 5)) == "ok"
    assert world.do(AUTHORITY, grant(alice, 2)) == "ok"
    assert world.do(AUTHORITY, grant(bob, 1)) == "ok"
    assert (gold(world, alice), gold(world, bob), queries.supply(world.state, Name("gold"))) == (7, 1, 8)
    (event,) = world.sealed[-1].execution.events
    assert event.kind == "resource.granted"
    assert record.from_bytes(ResourceGranted, event.payload_cbor, size_max=999) == ResourceGranted(
        resource=Name("gold"), to_actor_id=actor_id_of(bob.public_key), amount=U64(1)
    )


def test_only_the_authority_grants(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice)
    assert world.do(alice, grant(alice, 1)) == "not_authority"
    assert gold(world, alice) == 0


def test_the_authority_may_grant_to_itself(world: SmallWorld) -> None:
    assert world.do(AUTHORITY, grant(AUTHORITY, 1)) == "ok"
    assert gold(world, AUTHORITY) == 1


def test_the_supply_stays_below_two_to_the_64(world: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
    world.join(alice)
    world.join(bob)
    assert world.do(AUTHORITY, grant(alice, U64_MAX)) == "ok"
    assert world.do(AUTHORITY, grant(bob, 1)) == "supply_overflow"
    assert world.do(AUTHORITY, grant(alice, 1)) == "supply_overflow"
    assert world.do(AUTHORITY, grant(bob, U64_MAX, "iron")) == "ok"
    assert (gold(world, alice), gold(world, bob)) == (U64_MAX, 0)


@pytest.mark.parametrize(("amount", "resource", "code"), [
    (0, "gold", "zero_amount"),
    (1, "😀" * 64, "name_too_long"),
    (1, "日" * 64, "ok"),
])  # fmt: skip
def test_amounts_and_names(world: SmallWorld, alice: KeyPair, amount: int, resource: str, code: str) -> None:
    world.join(alice)
    assert world.do(AUTHORITY, grant(alice, amount, resource)) == code


def test_the_recipient_must_exist(world: SmallWorld, alice: KeyPair) -> None:
    assert world.do(AUTHORITY, grant(alice, 1)) == "unknown_recipient"
    assert queries.supply(world.state, Name("gold")) == 0
