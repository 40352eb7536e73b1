from __future__ import annotations

import pytest
from small_world import AUTHORITY, SmallWorld, key

from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.wire import record
from agent_world.wire.action import GrantResource, TransferResource
from agent_world.wire.ids import U64, Name
from agent_world.wire.limits import U64_MAX
from agent_world.world import queries
from agent_world.world.events import ResourceTransferred
from agent_world.world.records import BALANCES


def pay(to: KeyPair, amount: int, resource: str = "gold") -> TransferResource:
    return TransferResource(resource=Name(resource), to_actor_id=actor_id_of(to.public_key), amount=U64(amount))


def gold(world: SmallWorld, who: KeyPair) -> int:
    return queries.balance(world.state, actor_id_of(who.public_key), Name("gold"))


@pytest.fixture
def town(world: SmallWorld, alice: KeyPair, bob: KeyPair) -> SmallWorld:
    world.join(alice, gold=10)
    world.join(bob, gold=1)
    return world


@pytest.mark.parametrize(("amount", "code", "left"), [
    (0, "zero_amount", 10),
    (1, "ok", 9),
    (10, "ok", 0),
    (11, "insufficient_balance", 10),
    (U64_MAX, "insufficient_balance", 10),
])  # fmt: skip
def test_what_is_paid_arrives(
    town: SmallWorld, alice: KeyPair, bob: KeyPair, amount: int, code: str, left: int
) -> None:
    assert town.do(alice, pay(bob, amount)) == code
    assert (gold(town, alice), gold(town, bob)) == (left, 11 - left)


def test_the_event(town: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
    town.do(alice, pay(bob, 4))
    (event,) = town.sealed[-1].execution.events
    assert event.kind == "resource.transferred"
    assert record.from_bytes(ResourceTransferred, event.payload_cbor, size_max=999) == ResourceTransferred(
        resource=Name("gold"),
        from_actor_id=actor_id_of(alice.public_key),
        to_actor_id=actor_id_of(bob.public_key),
        amount=U64(4),
    )


@pytest.mark.parametrize(("amount", "code"), [(10, "ok"), (3, "ok"), (11, "insufficient_balance")])
def test_paying_oneself_changes_nothing(town: SmallWorld, alice: KeyPair, amount: int, code: str) -> None:
    assert town.do(alice, pay(alice, amount)) == code
    assert gold(town, alice) == 10


def test_an_empty_balance_leaves_no_record(town: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
    town.do(alice, pay(bob, 10))
    assert town.state.get(BALANCES, actor_id_of(alice.public_key), "gold") is None


def test_the_largest_balance_arrives_whole(town: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
    all_iron = GrantResource(resource=Name("iron"), to_actor_id=actor_id_of(alice.public_key), amount=U64(U64_MAX))
    assert town.do(AUTHORITY, all_iron) == "ok"
    assert town.do(alice, pay(bob, U64_MAX, "iron")) == "ok"
    assert queries.balance(town.state, actor_id_of(bob.public_key), Name("iron")) == U64_MAX


def test_other_resources_and_strangers(town: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
    assert town.do(alice, pay(bob, 1, "iron")) == "insufficient_balance"
    assert town.do(alice, pay(key(77), 1)) == "unknown_recipient"
    assert town.do(alice, pay(bob, 1, "😀" * 64)) == "name_too_long"
    assert (gold(town, alice), gold(town, bob)) == (10, 1)
