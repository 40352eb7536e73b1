"""wire/record.py: a record is a map of exactly its keys, with values of exactly their types."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import attrs
import pytest

from agent_world.errors import DecodeError, ErrorCode
from agent_world.testing.examples import example
from agent_world.testing.record_catalogue import RECORDS
from agent_world.wire import cbor, ids, record
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.consensus import Step, Vote
from agent_world.wire.ids import U16, U64
from agent_world.wire.record import V1
from agent_world.wire.rpc import ErrorResponse


class Colour(StrEnum):
    RED = "red"


@attrs.frozen(slots=True, kw_only=True)
class Inner:
    name: ids.Name


@attrs.frozen(slots=True, kw_only=True)
class Outer:
    v: U16 = U16(V1)
    flag: bool
    colour: Colour
    inner: Inner
    maybe: Inner | None
    many: tuple[Inner, ...]
    matrix: tuple[tuple[U64, ...], ...]
    holes: tuple[bytes | None, ...]
    link: Cid
    text: str
    number: int


GOOD: dict[str, Any] = {
    "v": 1,
    "flag": True,
    "colour": "red",
    "inner": {"name": "a"},
    "maybe": None,
    "many": [{"name": "b"}],
    "matrix": [[1, 2], []],
    "holes": [b"", None],
    "link": Cid(Codec.RAW, ContentHash(bytes(32))),
    "text": "",
    "number": -5,
}


def rule(value: Any, kind: type = Outer) -> str:
    with pytest.raises(DecodeError) as refused:
        record.structure(value, kind)
    return refused.value.rule


def test_structure_and_unstructure_are_inverse() -> None:
    item = record.structure(GOOD, Outer)
    assert item.many == (Inner(name=ids.Name("b")),)
    assert item.matrix == ((1, 2), ())
    assert item.colour is Colour.RED
    assert record.unstructure(item) == GOOD
    assert record.from_bytes(Outer, record.to_bytes(item), size_max=1000) == item


@pytest.mark.parametrize("field", sorted(GOOD))
def test_there_are_no_defaults_on_the_wire(field: str) -> None:
    assert rule({key: value for key, value in GOOD.items() if key != field}) == "D9"


def test_unknown_keys_are_refused() -> None:
    assert rule({**GOOD, "extra": None}) == "D9"
    assert rule({**GOOD, "inner": {"name": "a", "extra": 1}}) == "D9"


@pytest.mark.parametrize("version", [0, 2, -1, 2**64 - 1, "1", None, b"\x01"])
def test_unknown_versions_are_refused(version: Any) -> None:
    assert rule({**GOOD, "v": version}) == "D10"


def test_true_is_no_version_though_it_equals_one() -> None:
    assert rule({**GOOD, "v": True}) == "D8"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flag", 1), ("flag", None), ("colour", "blue"), ("colour", 1), ("colour", None), ("inner", None),
        ("inner", []), ("inner", "a"), ("maybe", []), ("maybe", False), ("many", None), ("many", {}), ("many", "ab"),
        ("many", b"ab"), ("many", [None]), ("matrix", [1]), ("matrix", [[-1]]), ("matrix", [[True]]), ("holes", [0]),
        ("holes", ["a"]),
        ("link", bytes(36)), ("link", None), ("text", b""), ("text", None), ("number", True), ("number", "1"),
    ],
)  # fmt: skip
def test_wrong_types_are_refused(field: str, value: Any) -> None:
    assert rule({**GOOD, field: value}) == "D8"


@pytest.mark.parametrize("value", [None, [], "", b"", 0, True])
def test_only_a_map_is_a_record(value: Any) -> None:
    assert rule(value) == "D8"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (ids.U16, (0, 2**16 - 1), (-1, 2**16)),
        (ids.U32, (0, 2**32 - 1), (-1, 2**32)),
        (ids.U64, (0, 2**64 - 1), (-1, 2**64)),
        (ids.I64, (-(2**63), 2**63 - 1), (-(2**63) - 1, 2**63)),
        (ids.TimeMs, (0, 2**63 - 1), (-1, 2**63)),
        (int, (-(2**63), 2**64 - 1), (-(2**63) - 1, 2**64)),
    ],
)
def test_ranges(kind: type, good: tuple[int, ...], bad: tuple[int, ...]) -> None:
    for value in good:
        assert record.structure(value, kind) == value
    for value in (*bad, True, False, None, "1", b"\x01"):
        assert rule(value, kind) == "D8"


@pytest.mark.parametrize(
    ("kind", "length"), [(ContentHash, 32), (ids.Hash32, 32), (ids.PublicKey, 32), (ids.Signature, 64)]
)
def test_lengths(kind: type, length: int) -> None:
    assert record.structure(bytes(length), kind) == bytes(length)
    for value in (bytes(length - 1), bytes(length + 1), b"", "0" * length, None, [0] * length, bytearray(length)):
        assert rule(value, kind) == "D8"


@pytest.mark.parametrize("kind", [ErrorCode, Step, Colour])
def test_an_enum_is_one_of_its_words(kind: type[StrEnum]) -> None:
    for member in kind:
        assert record.structure(member.value, kind) is member
    for value in ("no_such_word", "", 0, None, b"red"):
        assert rule(value, kind) == "D8"


def test_an_enum_inside_a_record_is_one_of_its_words() -> None:
    good = record.unstructure(example(ErrorResponse, "typical"))
    assert type(record.structure(good, ErrorResponse).code) is ErrorCode
    assert rule({**good, "code": "ERR_TEAPOT"}, ErrorResponse) == "D8"


def test_the_bytes_are_checked_before_the_record() -> None:
    data = record.to_bytes(example(Vote, "typical"))
    with pytest.raises(DecodeError) as refused:
        record.from_bytes(Vote, data, size_max=len(data) - 1)
    assert refused.value.rule == "D1"
    with pytest.raises(DecodeError) as refused:
        record.from_bytes(Vote, data + b"\x00", size_max=1000)
    assert refused.value.rule == "D5"


def test_errors_name_the_record_and_the_key() -> None:
    with pytest.raises(DecodeError, match=r"Outer has a missing or unknown key: extra, flag"):
        record.structure({**{key: GOOD[key] for key in GOOD if key != "flag"}, "extra": 1}, Outer)


def test_errors_are_short_whatever_was_sent() -> None:
    for value in ({**GOOD, "x" * 10_000: 1}, {**GOOD, "colour": "x" * 10_000}, {**GOOD, "number": "x" * 10_000}):
        with pytest.raises(DecodeError) as refused:
            record.structure(value, Outer)
        assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_every_record_is_frozen_and_takes_keywords_only(name: str) -> None:
    item = example(RECORDS[name], "typical")
    field = attrs.fields(RECORDS[name])[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(item, field, None)
    with pytest.raises(TypeError):
        RECORDS[name](*attrs.astuple(item, recurse=False))
    assert not hasattr(item, "__dict__"), "slots=True is missing"


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_version_is_the_first_field_and_the_only_default(name: str) -> None:
    fields = attrs.fields(RECORDS[name])
    defaults = [field.name for field in fields if field.default is not attrs.NOTHING]
    assert defaults in ([], ["v"])
    assert "v" not in [field.name for field in fields[1:]]


def test_t_1_2_round_trip_through_the_codec_alone() -> None:
    for kind in RECORDS.values():
        item = example(kind, "highest")
        assert record.structure(cbor.decode(record.to_bytes(item), size_max=1 << 20), kind) == item
