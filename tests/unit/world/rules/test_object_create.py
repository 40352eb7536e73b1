from __future__ import annotations

import pytest
from small_world import STORAGE_QUOTA, SmallWorld

from agent_world.crypto.hashing import actor_id_of, cid_of, content_hash
from agent_world.crypto.keys import KeyPair
from agent_world.wire import record
from agent_world.wire.action import CreateObject
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import U64, Name
from agent_world.wire.limits import U64_MAX
from agent_world.world import queries
from agent_world.world.events import ObjectCreated
from agent_world.world.records import ACTORS, ObjectRecord

CONTENT = cid_of(b"content")


def create(object_id: str, size: int) -> CreateObject:
    return CreateObject(object_id=Name(object_id), content=CONTENT, size_bytes=U64(size))


def used(world: SmallWorld, who: KeyPair) -> int:
    found = world.state.get(ACTORS, actor_id_of(who.public_key))
    assert found is not None
    return found.storage_used_bytes


def test_the_object_and_its_event(world: SmallWorld, alice: KeyPair) -> None:
    owner = world.join(alice)
    assert world.do(alice, create("book", 70)) == "ok"
    assert queries.world_object(world.state, Name("book")) == ObjectRecord(
        owner=owner, content=CONTENT, size_bytes=U64(70), created_at_height=U64(2)
    )
    (event,) = world.sealed[-1].execution.events
    assert event.kind == "object.created"
    assert record.from_bytes(ObjectCreated, event.payload_cbor, size_max=999) == ObjectCreated(
        object_id=Name("book"), owner=owner, content=CONTENT, size_bytes=U64(70)
    )
    assert used(world, alice) == 70
    assert world.nonce_of(alice) == 1


def test_an_object_id_is_taken_once_in_the_world(world: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
    world.join(alice)
    world.join(bob)
    world.do(alice, create("book", 70))
    assert world.do(bob, create("book", 1)) == "object_exists"
    assert world.do(alice, create("book", 1)) == "object_exists"
    assert (used(world, alice), used(world, bob)) == (70, 0)


@pytest.mark.parametrize(("size", "code"), [
    (1, "ok"),
    (STORAGE_QUOTA - 70, "ok"),
    (STORAGE_QUOTA - 69, "storage_quota_exceeded"),
    (U64_MAX, "storage_quota_exceeded"),
])  # fmt: skip
def test_the_stated_sizes_are_bounded_by_the_quota(world: SmallWorld, alice: KeyPair, size: int, code: str) -> None:
    world.join(alice)
    world.do(alice, create("book", 70))
    assert world.do(alice, create("another", size)) == code
    assert used(world, alice) == (70 + size if code == "ok" else 70)


@pytest.mark.parametrize(("object_id", "code"), [("😀" * 62, "ok"), ("😀" * 63, "name_too_long")])
def test_names_must_fit_into_a_key(world: SmallWorld, alice: KeyPair, object_id: str, code: str) -> None:
    world.join(alice)
    assert world.do(alice, create(object_id, 1)) == code


EMPTY = Cid(Codec.RAW, content_hash(b""))


@pytest.mark.parametrize(("content", "size", "code"), [
    (CONTENT, 0, "size_not_stated"),
    (EMPTY, 1, "size_not_stated"),
    (EMPTY, 0, "ok"),
    (CONTENT, 1, "ok"),
])  # fmt: skip
def test_no_bytes_are_stated_for_the_empty_content_only(
    world: SmallWorld, alice: KeyPair, content: Cid, size: int, code: str
) -> None:
    world.join(alice)
    payload = CreateObject(object_id=Name("book"), content=content, size_bytes=U64(size))
    assert world.do(alice, payload) == code
