"""wire/flat_writer.py: faster than the general encoder, and never different."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_world.errors import LocalError
from agent_world.testing.examples import VARIANTS, example
from agent_world.testing.record_catalogue import RECORDS
from agent_world.testing.record_strategies import records
from agent_world.wire import cbor, ids, record
from agent_world.wire.cid import Cid
from agent_world.wire.flat_writer import head, integer, writer_of
from agent_world.wire.ids import U16, U64
from agent_world.wire.record import V1


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


@attrs.frozen(slots=True, kw_only=True)
class Inner:
    """A record inside another."""

    v: U16 = U16(V1)
    name: ids.Name
    octets: bytes


@attrs.frozen(slots=True, kw_only=True)
class Everything:
    """Every type that a record may have, plain and optional."""

    v: U16 = U16(V1)
    colour: Colour
    colour_or_none: Colour | None
    number: int
    number_or_none: ids.I64 | None
    octets: bytes
    octets_or_none: bytes | None
    digest: ids.Hash32
    digest_or_none: ids.Signature | None
    text: str
    name_or_none: ids.Name | None
    link: Cid
    link_or_none: Cid | None
    switch: bool
    inner: Inner
    inner_or_none: Inner | None
    links: tuple[Cid, ...]
    inners: tuple[Inner, ...]
    names: tuple[tuple[ids.Name, ...], ...]
    numbers_or_none: tuple[U64, ...] | None


@attrs.frozen(slots=True, kw_only=True)
class Endless:
    """A record that may have another of its kind inside."""

    more: Endless | None


def written(item: object) -> bytes | None:
    write = writer_of(type(item))
    assert write is not None
    return write(item)


def general(item: object) -> bytes:
    """The bytes by the general encoder alone."""
    return cbor.encode(record.unstructure(item))


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(records(Everything))
def test_it_writes_what_the_general_encoder_writes(item: Everything) -> None:
    assert written(item) == general(item) == record.to_bytes(item)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", [name for name, kind in RECORDS.items() if writer_of(kind) is not None])
def test_it_writes_every_example(name: str, variant: str) -> None:
    item = example(RECORDS[name], variant)
    assert written(item) == general(item)


def test_nearly_all_records_have_a_writer() -> None:
    assert [name for name, kind in RECORDS.items() if writer_of(kind) is None] == ["FetchBlobsResponse"]


class OddText(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("field", "odd"),
    [
        ("number", True),
        ("number", "7"),
        ("number_or_none", 2**63),
        ("octets", bytearray(b"7")),
        ("digest", bytes(31)),
        ("digest_or_none", bytes(65)),
        ("text", b"text"),
        ("text", Colour.RED),
        ("text", OddText("text")),
        ("text", "\ud800"),
        ("colour", "blue"),
        ("colour", None),
        ("link", None),
        ("switch", 1),
        ("inner", None),
        ("links", [Cid.from_bytes(bytes.fromhex("01711e20") + bytes(32))]),
        ("links", (None,)),
        ("v", 2),
        ("v", True),
    ],
)
def test_what_is_not_of_the_fields_type_is_left_to_the_general_encoder(field: str, odd: Any) -> None:
    item = attrs.evolve(example(Everything, "typical"), **{field: odd})
    assert written(item) is None

    def outcome(encode: Any) -> Any:
        try:
            return encode(item)
        except LocalError as error:
            return str(error)

    assert outcome(record.to_bytes) == outcome(general)


def test_the_text_of_an_enumerator_is_as_good_as_it() -> None:
    item = attrs.evolve(example(Everything, "typical"), colour="green")
    assert written(item) == general(item) == general(attrs.evolve(item, colour=Colour.GREEN))


def test_a_class_below_and_one_without_an_end_have_no_writer() -> None:
    class Below(Inner):
        """Another class, of which nobody knows what it means."""

    assert writer_of(Inner)(Below(name=ids.Name("n"), octets=b"")) is None  # type: ignore[misc]
    assert writer_of(Endless) is None
    item = Endless(more=Endless(more=None))
    assert record.to_bytes(item) == general(item)


def test_what_is_no_record_is_encoded_as_ever() -> None:
    for value in ([1, "a"], {"a": b"b"}, 7, None, Colour.RED):
        assert record.to_bytes(value) == general(value)


@given(st.integers(-(2**63), 2**64 - 1))
def test_integers_have_the_shortest_form(number: int) -> None:
    assert integer(number) == cbor.encode(number)


@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, 65_535, 65_536])
def test_lengths_have_the_shortest_form(length: int) -> None:
    assert head(0x40, length) + bytes(length) == cbor.encode(bytes(length))
