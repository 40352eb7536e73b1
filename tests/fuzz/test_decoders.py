"""Whatever bytes a peer sends, a decoder gives a value that encodes to the same bytes, or a DecodeError; never else.

Bytes are random, valid, or valid ones that were mutated; the last find most, since they get past the first checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mutations import mutated

from agent_world.errors import DecodeError
from agent_world.testing.examples import VARIANTS
from agent_world.testing.examples import example as example_of
from agent_world.testing.record_catalogue import RECORDS, size_max_of
from agent_world.wire import cbor, ids, record
from agent_world.wire.cid import Cid, parse_content_hash
from agent_world.wire.limits import BLOB_BYTES_MAX, MIB

RECORD_NAMES = sorted(RECORDS)
FUZZ = settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
DECODE_S_MAX = 1.0
"""For 1 MiB of the worst bytes known here; they take about 0.1 s."""

VALID: dict[str, list[bytes]] = {
    name: [record.to_bytes(example_of(kind, variant)) for variant in VARIANTS] for name, kind in RECORDS.items()
}
CBOR_LIKE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=40) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers(0, 3), inner, max_size=4)
        | st.builds(cbor2.CBORTag, st.integers(0, 2**64 - 1) | st.just(42), inner)
    ),
    max_leaves=12,
)


def decodes_strictly(decode: Callable[[bytes], Any], encode: Callable[[Any], bytes], data: bytes) -> bool:
    """The invariant of this file; True if the bytes were valid."""
    try:
        value = decode(data)
    except DecodeError as error:
        refused = error
    else:
        assert encode(value) == data
        return True
    assert refused.rule in {f"D{n}" for n in range(1, 11)}
    assert len(str(refused)) < 500, "an error must not echo what a peer sent at length"
    return False


def decodes_record(name: str, data: bytes) -> bool:
    kind = RECORDS[name]
    return decodes_strictly(
        lambda octets: record.from_bytes(kind, octets, size_max=size_max_of(name)), record.to_bytes, data
    )


@pytest.mark.parametrize("name", RECORD_NAMES)
def test_valid_bytes_pass_the_invariant(name: str) -> None:
    assert all(decodes_record(name, data) for data in VALID[name])


@FUZZ
@given(name=st.sampled_from(RECORD_NAMES), data=st.binary(max_size=300))
def test_records_of_random_bytes(name: str, data: bytes) -> None:
    decodes_record(name, data)


@FUZZ
@given(name=st.sampled_from(RECORD_NAMES), value=CBOR_LIKE)
def test_records_of_any_cbor(name: str, value: Any) -> None:
    decodes_record(name, cbor2.dumps(value))


@settings(FUZZ, max_examples=1500)
@given(data=st.data(), name=st.sampled_from(RECORD_NAMES))
def test_records_of_mutated_bytes(data: st.DataObject, name: str) -> None:
    decodes_record(name, data.draw(mutated(VALID[name])))


def outcome(decode: Callable[[], Any]) -> Any:
    """The record, or the rule broken."""
    try:
        return decode()
    except DecodeError as error:
        return error.rule


@settings(FUZZ, max_examples=1500)
@given(data=st.data(), name=st.sampled_from(RECORD_NAMES))
def test_the_fast_way_and_the_general_way_agree(data: st.DataObject, name: str) -> None:
    """Records of one layout are read by compiled code (wire/flat_reader.py); both must give the same answer."""
    octets, size_max = data.draw(mutated(VALID[name])), size_max_of(name)
    fast = outcome(lambda: record.from_bytes(RECORDS[name], octets, size_max=size_max))
    general = outcome(lambda: record.structure(cbor.decode(octets, size_max=size_max), RECORDS[name]))
    assert fast == general


@FUZZ
@given(asked=st.sampled_from(RECORD_NAMES), sent=st.sampled_from(RECORD_NAMES))
def test_a_record_is_not_taken_for_another(asked: str, sent: str) -> None:
    for data in VALID[sent]:
        if decodes_record(asked, data):
            assert record.from_bytes(RECORDS[asked], data, size_max=MIB) is not None
            assert keys_of(asked) == keys_of(sent)


def keys_of(name: str) -> set[str]:
    return set(record.unstructure(example_of(RECORDS[name], "lowest")))


@FUZZ
@given(st.binary(max_size=200))
@example(b"")
@example(b"\xd8\x2a")
@example(b"\xd9\xd9\xf7\x00")
@example(bytes.fromhex("9b00000000ffffffff"))
@example(bytes.fromhex("5b7fffffffffffffff"))
@example(bytes.fromhex("c348ffffffffffffffff"))
@example(bytes.fromhex("d81d00"))
def test_cbor_of_random_bytes(data: bytes) -> None:
    decodes_strictly(lambda octets: cbor.decode(octets, size_max=BLOB_BYTES_MAX), cbor.encode, data)


@FUZZ
@given(CBOR_LIKE)
def test_cbor_of_any_value(value: Any) -> None:
    decodes_strictly(lambda octets: cbor.decode(octets, size_max=BLOB_BYTES_MAX), cbor.encode, cbor2.dumps(value))


@FUZZ
@given(mutated([b"\x01\x71\x1e\x20" + bytes(32), b"\x01\x55\x1e\x20" + b"\xff" * 32]) | st.binary(max_size=40))
def test_cids_of_bytes(data: bytes) -> None:
    decodes_strictly(Cid.from_bytes, Cid.to_bytes, data)


LINK = Cid.from_bytes(b"\x01\x71\x1e\x20" + bytes(32))
TEXTS: dict[str, tuple[str, Callable[[str], Any], Callable[[Any], str]]] = {
    "cid": (str(LINK), Cid.parse, str),
    "content hash": ("0" * 64, parse_content_hash, bytes.hex),
    "peer id": (
        ids.peer_id_of(ids.PublicKey(bytes(32))),
        ids.node_key_of,
        lambda key: ids.peer_id_of(ids.PublicKey(key)),
    ),
    "actor id": ("a" * 32, ids.check_actor_id, str),
    "word": ("les-miserables", ids.check_word, str),
    "name": ("Jean Valjean", ids.check_name, str),
    "label": ("agent.register", ids.check_label, str),
}


@FUZZ
@given(kind=st.sampled_from(sorted(TEXTS)), text=st.text(max_size=100))
def test_random_texts(kind: str, text: str) -> None:
    check_text(kind, text)


@settings(FUZZ, max_examples=600)
@given(data=st.data(), kind=st.sampled_from(sorted(TEXTS)))
def test_mutated_texts(data: st.DataObject, kind: str) -> None:
    text = data.draw(mutated([TEXTS[kind][0].encode()])).decode("utf-8", "surrogateescape")
    check_text(kind, text)


def check_text(kind: str, text: str) -> None:
    _, parse, show = TEXTS[kind]
    try:
        value = parse(text)
    except DecodeError as error:
        rule = error.rule
    else:
        rule = "D7" if show(value) == text else "the text of another value"
    assert rule in {"D6", "D7"}


@pytest.mark.parametrize(
    "data",
    [
        b"\x80" * MIB,
        b"\x81" * MIB,
        b"\x9a\x00\x0f\xff\xfb" + b"\x80" * (MIB - 5),
        b"\x9a\x00\x0f\xff\xfb" + b"\xa0" * (MIB - 5),
        b"\x9a\x00\x0f\xff\xfb" + b"\x00" * (MIB - 5),
        b"\x7a\x00\x0f\xff\xfb" + b"\xff" * (MIB - 5),
        b"\xc2\x5a\x00\x0f\xff\xfa" + b"\xff" * (MIB - 6),
        cbor2.dumps({f"{number:06}": number for number in range(90_000)}, canonical=True),
        cbor2.dumps("z" * (MIB - 5)),
    ],
    ids=["empty lists", "nested", "list of lists", "list of maps", "zeros", "not utf-8", "bignum", "many keys", "text"],
)
@pytest.mark.parametrize("decode", [cbor.decode, *(RECORDS[name] for name in ("Hello", "GetBlocksResponse"))])
def test_time_is_bounded(decode: Any, data: bytes) -> None:
    started = time.process_time()
    try:
        if decode is cbor.decode:
            decode(data, size_max=MIB)
        else:
            record.from_bytes(decode, data, size_max=MIB)
    except DecodeError:
        pass
    assert time.process_time() - started < DECODE_S_MAX


@pytest.mark.parametrize("kind", sorted(TEXTS))
@pytest.mark.parametrize("letter", ["1", "z", "a", " ", "\n", "é", "\U0001f30d"])
def test_time_is_bounded_for_long_texts(kind: str, letter: str) -> None:
    started = time.process_time()
    with pytest.raises(DecodeError):
        TEXTS[kind][1](letter * MIB)
    assert time.process_time() - started < DECODE_S_MAX


def test_the_invariant_sees_a_decoder_that_is_not_strict() -> None:
    with pytest.raises(AssertionError):
        decodes_strictly(cbor2.loads, cbor.encode, b"\x18\x17")
    with pytest.raises(ValueError, match="other"):
        decodes_strictly(_raises_another_error, cbor.encode, b"")


def _raises_another_error(_data: bytes) -> Any:
    raise ValueError("other")
