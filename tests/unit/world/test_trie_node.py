from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of
from agent_world.errors import DecodeError, LocalError
from agent_world.wire import cbor
from agent_world.wire.cid import Codec
from agent_world.world.trie_node import (
    BUCKET_SIZE,
    EMPTY,
    LEVELS_MAX,
    Bucket,
    Node,
    collapsed,
    decode_node,
    encode_node,
    key_hash,
    slot_at,
    taken_slots,
)


def bits_of(key: bytes) -> str:
    return "".join(f"{octet:08b}" for octet in blake3(key).digest())


def keys_in_slot(slot: int, count: int) -> list[bytes]:
    found = (b"%d" % n for n in range(10_000) if slot_at(key_hash(b"%d" % n), 0) == slot)
    return sorted(next(found) for _ in range(count))


@given(key=st.binary(max_size=40), level=st.integers(0, LEVELS_MAX - 1))
@settings(deadline=None, max_examples=60)
def test_slots_are_the_leading_bits_five_a_level(key: bytes, level: int) -> None:
    assert slot_at(key_hash(key), level) == int(bits_of(key)[5 * level : 5 * level + 5], 2)


@given(slots=st.sets(st.integers(0, 31)))
@settings(deadline=None, max_examples=60)
def test_taken_slots_are_the_set_bits(slots: set[int]) -> None:
    assert taken_slots(sum(1 << slot for slot in slots)) == sorted(slots)


def test_a_node_is_written_as_the_specification_says() -> None:
    (key,) = keys_in_slot(9, 1)
    link = cid_of(b"child")
    node = Node(1 << 9 | 1 << 30, (Bucket(((key, {"a": 1}),)), link))
    assert taken_slots(node.bitmap) == [9, 30]
    body = [bytes((0, 0b10, 0, 0b0100_0000)), [[[key, {"a": 1}]], link]]
    assert encode_node(node, is_root=False) == cbor.encode(body)
    root = encode_node(node, is_root=True)
    assert root == cbor.encode({"hamt": body, "hashAlg": 30, "bucketSize": 3})
    back = decode_node(root, 0, 0)
    assert back.bitmap == node.bitmap
    bucket = back.element(9)
    assert isinstance(bucket, Bucket)
    assert bucket.entries == ((key, {"a": 1}),)
    assert back.element(30) == link
    assert back.element(10) is None


def test_a_node_of_every_size_is_written_as_the_codec_would() -> None:
    for count in range(33):
        elements = tuple(cid_of(b"%d" % number) for number in range(count))
        node = Node((1 << count) - 1, elements)
        body = [((1 << count) - 1).to_bytes(4, "little"), list(elements)]
        assert encode_node(node, is_root=False) == cbor.encode(body)
        assert decode_node(encode_node(node, is_root=True), 0, 0).elements == elements


def test_a_node_with_a_child_in_memory_cannot_be_encoded() -> None:
    with pytest.raises(LocalError):
        encode_node(Node(1, (EMPTY,)), is_root=False)


def test_collapsed_keeps_only_nodes_of_more_than_a_bucket() -> None:
    entries = [(key, 1) for key in (b"a", b"b", b"c", b"d")]
    assert collapsed(EMPTY) is None
    few = collapsed(Node(0b11, (Bucket(tuple(entries[2:3])), Bucket(tuple(entries[:2])))))
    assert isinstance(few, Bucket)
    assert few.entries == tuple(entries[:BUCKET_SIZE])
    many = Node(0b11, (Bucket(tuple(entries[:2])), Bucket(tuple(entries[2:]))))
    assert collapsed(many) is many
    linked = Node(0b1, (cid_of(b"child"),))
    assert collapsed(linked) is linked


SLOT9 = keys_in_slot(9, 4)
OTHER = keys_in_slot(10, 1)[0]
MAP9 = bytes((0, 0b10, 0, 0))
LINK = cid_of(b"child")


def root_of(body: cbor.Value, **changes: cbor.Value) -> cbor.Value:
    return {"hamt": body, "hashAlg": 0x1E, "bucketSize": 3, **changes}


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (7, "T1"),
        ([MAP9, [[[SLOT9[0], 1]]]], "T1"),
        (root_of([MAP9, [[[SLOT9[0], 1]]]], hashAlg=0x12), "T1"),
        (root_of([MAP9, [[[SLOT9[0], 1]]]], bucketSize=4), "T1"),
        (root_of([MAP9, [[[SLOT9[0], 1]]]], extra=1), "T1"),
        (root_of({}), "T1"),
        (root_of([MAP9]), "T1"),
        (root_of([MAP9[:3], [[[SLOT9[0], 1]]]]), "T1"),
        (root_of([MAP9, []]), "T1"),
        (root_of([MAP9, [LINK, LINK]]), "T1"),
        (root_of([MAP9, [cid_of(b"child", Codec.RAW)]]), "T1"),
        (root_of([MAP9, [[]]]), "T1"),
        (root_of([MAP9, [{}]]), "T1"),
        (root_of([MAP9, [None]]), "T1"),
        (root_of([MAP9, [[[key, 1] for key in SLOT9]]]), "T1"),
        (root_of([MAP9, [[[SLOT9[0]]]]]), "T1"),
        (root_of([MAP9, [[["text", 1]]]]), "T1"),
        (root_of([MAP9, [[[SLOT9[0], None]]]]), "T1"),
        (root_of([MAP9, [[[SLOT9[1], 1], [SLOT9[0], 1]]]]), "T2"),
        (root_of([MAP9, [[[SLOT9[0], 1], [SLOT9[0], 1]]]]), "T2"),
        (root_of([MAP9, [[[OTHER, 1]]]]), "T3"),
    ],
)
def test_malformed_roots(value: cbor.Value, rule: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_node(cbor.encode(value), 0, 0)
    assert caught.value.rule == rule


def test_a_key_over_the_limit_is_refused_when_read() -> None:
    key = next(b"%0257d" % n for n in range(999) if slot_at(key_hash(b"%0257d" % n), 0) == 9)
    with pytest.raises(DecodeError, match="limit of 256"):
        decode_node(cbor.encode(root_of([MAP9, [[[key, 1]]]])), 0, 0)


def test_a_child_must_hold_more_than_a_bucket_and_be_in_its_place() -> None:
    entries = [[key, 1] for key in SLOT9]
    groups: dict[int, list[cbor.Value]] = {}
    for key, value in entries:
        groups.setdefault(slot_at(key_hash(key), 1), []).append([key, value])
    bitmap = sum(1 << slot for slot in groups)
    data = [groups[slot] for slot in sorted(groups)]
    child = cbor.encode([bitmap.to_bytes(4, "little"), data])
    assert decode_node(child, 1, 9).bitmap == bitmap
    with pytest.raises(DecodeError, match="T3"):
        decode_node(child, 1, 10)
    slot = slot_at(key_hash(SLOT9[0]), 1)
    small = cbor.encode([(1 << slot).to_bytes(4, "little"), [entries[:1]]])
    with pytest.raises(DecodeError, match="T2"):
        decode_node(small, 1, 9)
    with pytest.raises(DecodeError, match="T2"):
        decode_node(cbor.encode([bytes(4), []]), 1, 9)


@given(data=st.binary(max_size=200), level=st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_no_bytes_give_anything_but_a_node_or_a_decode_error(data: bytes, level: int) -> None:
    try:
        node = decode_node(data, level, 0)
    except DecodeError:
        return
    assert encode_node(node, is_root=level == 0) == data
