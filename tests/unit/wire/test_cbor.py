"""wire/cbor.py: one encoding a value, and nothing else is decoded."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.errors import DecodeError, LocalError
from agent_world.testing.record_strategies import cids
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.limits import CBOR_DEPTH_MAX, CBOR_ITEMS_MAX

SELF_DESCRIBE = bytes.fromhex("d9d9f7")
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS | cids(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def decode(data: bytes) -> Any:
    return cbor.decode(data, size_max=1 << 20)


def rule(data: bytes, size_max: int = 1 << 20) -> str:
    with pytest.raises(DecodeError) as refused:
        cbor.decode(data, size_max=size_max)
    return refused.value.rule


@settings(deadline=None, max_examples=200)
@given(VALUES)
def test_round_trip(value: Any) -> None:
    data = cbor.encode(value)
    assert decode(data) == value
    assert cbor.encode(decode(data)) == data


@settings(deadline=None, max_examples=200)
@given(VALUES)
def test_what_is_put_together_here_is_what_the_library_writes(value: Any) -> None:
    data = cbor.encode(value)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cbor, "_LARGE_BYTES", -1)
        patched.setattr(cbor, "_MANY_LARGE_BYTES", -1)
        assert cbor.encode(value) == data
        assert decode(data) == value


@pytest.mark.parametrize("size", [4_096, 4_097, 65_535, 65_536, 300_000])
def test_large_byte_strings_are_as_strict_as_small_ones(size: int) -> None:
    value = {"a": [bytes(size), None, b"small"]}
    data = cbor.encode(value)
    assert data == cbor2.dumps(value, canonical=True)
    assert decode(data) == value
    head = data.index(b"\x59" if size < 65_536 else b"\x5a")
    width = 2 if size < 65_536 else 4
    longer = data[:head] + b"\x5b" + size.to_bytes(8, "big") + data[head + 1 + width :]
    assert rule(longer) == "D5"


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text(max_size=6), st.integers(0, 5), min_size=2, max_size=6), st.randoms())
def test_the_order_in_which_a_map_was_built_does_not_matter(value: dict[str, int], rng: Any) -> None:
    items = list(value.items())
    rng.shuffle(items)
    assert cbor.encode(dict(items)) == cbor.encode(value)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text(max_size=6), st.integers(0, 5), min_size=2, max_size=6))
def test_any_other_order_of_keys_is_refused(value: dict[str, int]) -> None:
    canonical = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
    reverse = {key: value[key] for key in reversed(canonical)}
    assert rule(cbor2.dumps(reverse)) == "D5"
    assert decode(cbor2.dumps({key: value[key] for key in canonical})) == value


def test_the_order_of_many_and_of_long_keys_is_checked_too() -> None:
    """Such keys pass by the cache of known orders."""
    many = {f"{number:03}": number for number in range(40)}
    assert decode(cbor2.dumps(many)) == many
    assert rule(cbor2.dumps(dict(reversed(many.items())))) == "D5"
    assert rule(cbor2.dumps({"b" * 600: 1, "a" * 600: 2})) == "D5"
    assert decode(cbor2.dumps({"a" * 600: 1, "b" * 600: 2})) == {"a" * 600: 1, "b" * 600: 2}


def test_keys_of_peers_do_not_fill_the_cache_of_orders() -> None:
    before = cbor._is_ascending_cached.cache_info().currsize
    decode(cbor.encode({"k" * 513: 0}))
    assert cbor._is_ascending_cached.cache_info().currsize == before


@pytest.mark.parametrize(
    ("value", "octets", "digest"),
    [
        (
            {"world_id": "w1"},
            "a168776f726c645f6964627731",
            "a11b7ba6ebb9f7d60c9ed24cd05995d5a42286583a238e23a2551447503168fa",
        ),
        ([], "80", "0425b84fcfc7a4bee8787378dfd012380600a7d0c63e5973659b9a0570a49131"),
        (["a1", "a2"], "82626131626132", "86eba1dc9b06fbc62116d5585f089946f1a08ed79f05b1aa85b2369845f31688"),
    ],
)  # fmt: skip
def test_golden_values_of_the_specification(value: Any, octets: str, digest: str) -> None:
    """Its encoding is the same with the self-describe tag in front; its hashes include that tag."""
    assert cbor.encode(value).hex() == octets
    assert blake3(SELF_DESCRIBE + cbor.encode(value)).hexdigest() == digest


def test_key_order_of_a_head_as_in_the_specification() -> None:
    head = dict.fromkeys(("world_id", "height", "block_hash", "state_root", "timestamp_ms", "signature"), 0)
    order = ["height", "world_id", "signature", "block_hash", "state_root", "timestamp_ms"]
    assert list(decode(cbor.encode(head))) == order


@pytest.mark.parametrize("octets", ["a2616100616100", "a3616100616200616100"])
def test_t_1_12_duplicate_keys_are_refused(octets: str) -> None:
    assert rule(bytes.fromhex(octets)) == "D2"


@settings(deadline=None, max_examples=100)
@given(VALUES, st.binary(min_size=1, max_size=4))
def test_t_1_12_trailing_octets_are_refused(value: Any, rest: bytes) -> None:
    assert rule(cbor.encode(value) + rest) == "D5"


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_t_1_12_integers_in_a_longer_form_are_refused(number: int) -> None:
    shortest = cbor.encode(number)
    for first, width in ((0x18, 1), (0x19, 2), (0x1A, 4), (0x1B, 8)):
        if number < 256**width and 1 + width > len(shortest):
            assert rule(bytes((first,)) + number.to_bytes(width, "big")) == "D5"
            assert rule(bytes((first | 0x20,)) + number.to_bytes(width, "big")) == "D5"


@settings(deadline=None, max_examples=100)
@given(VALUES)
def test_every_prefix_is_refused(value: Any) -> None:
    data = cbor.encode(value)
    for cut in range(len(data)):
        assert rule(data[:cut]) in {"D2", "D6"}


def test_the_size_is_looked_at_first() -> None:
    assert rule(b"\xff" * 11, size_max=10) == "D1"
    assert cbor.decode(cbor.encode(bytes(8)), size_max=9) == bytes(8)


@pytest.mark.parametrize("item", [0, [], {}, b"", "", 24, None])
def test_the_number_of_items_is_bounded(item: Any) -> None:
    """The list itself is an item too."""
    assert len(decode(cbor2.dumps([item] * (CBOR_ITEMS_MAX - 1)))) == CBOR_ITEMS_MAX - 1
    assert rule(cbor2.dumps([item] * CBOR_ITEMS_MAX)) == "D1"


def test_long_strings_are_one_item_each() -> None:
    value = {"a": bytes(200_000), "b": ["é" * 300, b"x" * 70_000, "y" * 30], "c": 2**40}
    assert decode(cbor.encode(value)) == value


@pytest.mark.parametrize("cut", [70_000, 70_001, 100_000])
def test_counting_items_judges_nothing_else(cut: int) -> None:
    assert rule(cbor.encode([bytes(100_000)])[:cut]) == "D2"
    assert rule(b"\x5b" + b"\xff" * 8 + bytes(cut)) == "D2"


@pytest.mark.parametrize("opening", ["81", "a16161"])
def test_depth_is_bounded(opening: str) -> None:
    assert decode(bytes.fromhex(opening * CBOR_DEPTH_MAX + "00"))
    assert rule(bytes.fromhex(opening * (CBOR_DEPTH_MAX + 1) + "00")) == "D2"
    assert rule(bytes.fromhex(opening * 20_000 + "00")) == "D2"


@pytest.mark.parametrize(
    "tag", [0, 1, 2, 3, 4, 5, 24, 25, 28, 29, 30, 35, 36, 37, 43, 52, 54, 100, 256, 258, 260, 261, 1004, 55799]
)
def test_no_tag_but_42_is_acted_upon(tag: int) -> None:
    assert rule(cbor2.dumps(cbor2.CBORTag(tag, "1970-01-01"))) == "D4"
    assert rule(cbor2.dumps(cbor2.CBORTag(tag, []))) == "D4"


def test_every_tag_that_the_library_would_act_upon_is_refused() -> None:
    """Fails when a new version of cbor2 knows a tag that the codec does not name."""
    for tag in (*range(24), *range(24, 300), 1004, 43000, 55799, 2**32, 2**64 - 1):
        if tag != 42:
            assert rule(cbor2.dumps(cbor2.CBORTag(tag, b"\x00"))) == "D4", f"add tag {tag} to cbor._BUILTIN_TAGS"


def test_links() -> None:
    link = Cid(Codec.RAW, ContentHash(bytes(range(32))))
    assert cbor.encode(link).hex() == "d82a5825" + "00" + link.to_bytes().hex()
    assert decode(cbor.encode({"a": [link]})) == {"a": [link]}
    assert rule(bytes.fromhex("d82a5824") + link.to_bytes()) == "D6"
    assert rule(bytes.fromhex("d82a6161")) == "D6"


def test_links_of_finds_every_link_in_reading_order() -> None:
    first, second, third = (Cid(Codec.RAW, ContentHash(bytes([n]) * 32)) for n in (3, 1, 2))
    value = {"a": first, "b": [[second], 5, {"c": third}], "cc": b"\x01" + second.to_bytes()}
    assert cbor.links_of(decode(cbor.encode(value))) == [first, second, third]
    assert cbor.links_of(b"raw") == []


@pytest.mark.parametrize("value", [1.5, float("nan"), {1: 2}, {b"a": 1}, 2**64, -(2**63) - 1, {1, 2}, object(), (1, 2)])
def test_what_cannot_be_decoded_cannot_be_encoded(value: Any) -> None:
    with pytest.raises(LocalError):
        cbor.encode(value)
    with pytest.raises(LocalError):
        cbor.encode({"a": [value]})


def test_text_with_a_lone_surrogate_cannot_be_encoded() -> None:
    with pytest.raises(LocalError, match="surrogate"):
        cbor.encode("\ud800")
    with pytest.raises(LocalError, match="surrogate"):
        cbor.encode({"\udfff": 0})


def test_a_bool_is_not_an_integer() -> None:
    assert decode(b"\xf5") is True
    assert decode(b"\x01") == 1
    assert decode(b"\x01") is not True


def test_foreign_links_are_read_by_whoever_asks_and_nothing_else_is_judged() -> None:
    out_of_order = b"\xa2\x62bb\xd8\x2a\x42\x00\x07\x61a\x18\x01"
    assert cbor.decode_foreign(out_of_order, size_max=100, link=lambda data: ("link", data)) == {
        "bb": ("link", b"\x07"),
        "a": 1,
    }
    for data, rule in (
        (b"\xd8\x2a\x41\x07", "D6"), (b"\xd8\x2a\x07", "D6"), (SELF_DESCRIBE + b"\x01", "D4"), (b"\x9f\xff", "D2"),
        (b"\x61", "D2"), (b"\xa2\x61a\x01\x61a\x02", "D2"), (bytes(101), "D1"),
    ):  # fmt: skip
        with pytest.raises(DecodeError) as caught:
            cbor.decode_foreign(data, size_max=100, link=bytes)
        assert caught.value.rule == rule
    with pytest.raises(DecodeError, match="D6"):
        cbor.decode_foreign(b"\xd8\x2a\x42\x00\x07", size_max=100, link=Cid.from_bytes)
