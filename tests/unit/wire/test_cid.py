"""wire/cid.py: one binary and one text form of a link."""

from __future__ import annotations

import pytest
from cid import make_cid
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.errors import DecodeError
from agent_world.testing.record_strategies import cids
from agent_world.wire.cid import Cid, Codec, ContentHash, parse_content_hash

ZERO = Cid(Codec.DAG_CBOR, ContentHash(bytes(32)))


@settings(deadline=None, max_examples=100)
@given(cids())
def test_round_trips(cid: Cid) -> None:
    assert Cid.from_bytes(cid.to_bytes()) == cid
    assert Cid.parse(str(cid)) == cid


@settings(deadline=None, max_examples=50)
@given(cids())
def test_py_cid_reads_the_same(cid: Cid) -> None:
    """An implementation of the specification by others agrees on both forms."""
    other = make_cid(str(cid))
    assert (other.version, other.codec) == (1, "raw" if cid.codec is Codec.RAW else "dag-cbor")
    assert other.buffer == cid.to_bytes()


def test_known_forms() -> None:
    assert ZERO.to_bytes().hex() == "01711e20" + "00" * 32
    assert str(ZERO) == "bafyr4i" + "a" * 52
    assert str(Cid(Codec.RAW, ContentHash(bytes(32)))) == "bafkr4i" + "a" * 52


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ZERO.to_bytes()[:-1],
        ZERO.to_bytes() + b"\x00",
        b"\x00" + ZERO.to_bytes()[1:],
        b"\x01\x70" + ZERO.to_bytes()[2:],
        b"\x01\x71\x12\x20" + bytes(32),
        b"\x01\x71\x1e\x1f" + bytes(32),
    ],
)
def test_other_binary_forms_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError) as refused:
        Cid.from_bytes(data)
    assert refused.value.rule == "D6"


@pytest.mark.parametrize(
    "text",
    ["", "b", str(ZERO)[1:], str(ZERO).upper(), str(ZERO) + "a", str(ZERO)[:-1] + "b", str(ZERO)[:-1], "é" * 59,
     "z" + str(ZERO)[1:], str(ZERO) + "\n", " " + str(ZERO), "b" + "ß" * 58],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(DecodeError) as refused:
        Cid.parse(text)
    assert refused.value.rule == "D6"


def test_a_digest_has_32_bytes() -> None:
    with pytest.raises(DecodeError):
        Cid(Codec.RAW, ContentHash(bytes(31)))


def test_cids_are_ordered_and_hashable() -> None:
    raw = Cid(Codec.RAW, ContentHash(b"\xff" * 32))
    assert sorted([ZERO, raw]) == [raw, ZERO]
    assert {ZERO: 1}[Cid(Codec.DAG_CBOR, ContentHash(bytes(32)))] == 1


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=32, max_size=32))
def test_content_hash_texts(digest: bytes) -> None:
    assert parse_content_hash(digest.hex()) == digest


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "AA" * 32, "0g" * 32, " " + "0" * 64, "00 " * 32, "é" * 64])
def test_other_content_hash_texts_are_refused(text: str) -> None:
    with pytest.raises(DecodeError) as refused:
        parse_content_hash(text)
    assert refused.value.rule == "D6"
