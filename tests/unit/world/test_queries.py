from __future__ import annotations

import pytest
from small_world import AUTHORITY, SmallWorld

from agent_world.crypto.hashing import actor_id_of, cid_of
from agent_world.crypto.keys import KeyPair
from agent_world.wire.action import CreateObject, MoveAgent
from agent_world.wire.ids import I64, U64, Name
from agent_world.world import queries


@pytest.fixture
def town(world: SmallWorld, alice: KeyPair, bob: KeyPair) -> SmallWorld:
    world.join(alice, gold=5)
    world.join(bob, gold=2)
    world.do(alice, MoveAgent(x_cm=I64(1), y_cm=I64(2), z_cm=I64(3)))
    world.do(alice, CreateObject(object_id=Name("a/b"), content=cid_of(b"x"), size_bytes=U64(1)))
    return world


def test_one_actor(town: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
    view = queries.actor(town.state, actor_id_of(alice.public_key))
    assert view is not None
    assert view.position is not None
    assert (view.next_nonce, view.actor.public_key, view.position.z_cm) == (3, alice.public_key, 3)
    other = queries.actor(town.state, actor_id_of(bob.public_key))
    assert other is not None
    assert (other.next_nonce, other.position) == (1, None)
    assert queries.actor(town.state, actor_id_of(bytes(32))) is None


def test_all_actors(town: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
    ids = {actor_id_of(who.public_key) for who in (AUTHORITY, alice, bob)}
    ids |= {actor_id_of(entry.public_key) for entry in town.genesis.validators.validators}
    assert {view.actor_id for view in queries.actors(town.state)} == ids


def test_balances(town: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
    rich, poor = actor_id_of(alice.public_key), actor_id_of(bob.public_key)
    assert sorted(queries.balances(town.state)) == sorted([(rich, "gold", 5), (poor, "gold", 2)])
    assert queries.balance(town.state, rich, Name("gold")) == 5
    assert queries.balance(town.state, rich, Name("iron")) == 0
    assert queries.supply(town.state, Name("gold")) == 7
    assert queries.supply(town.state, Name("iron")) == 0


def test_objects(town: SmallWorld) -> None:
    found = queries.world_object(town.state, Name("a/b"))
    assert found is not None
    assert list(queries.objects(town.state)) == [("a/b", found)]
    assert queries.world_object(town.state, Name("b")) is None
