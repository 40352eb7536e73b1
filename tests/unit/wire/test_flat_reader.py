"""wire/flat_reader.py: faster than the general decoder, and never more lenient or different."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_world.errors import DecodeError
from agent_world.testing.broken import broken_copies
from agent_world.testing.examples import VARIANTS, example
from agent_world.testing.record_catalogue import RECORDS
from agent_world.testing.record_strategies import records
from agent_world.wire import cbor, ids, record
from agent_world.wire.cid import Cid
from agent_world.wire.flat_reader import LIST_ITEMS_MAX, canonical_order, reader_of
from agent_world.wire.ids import U16, U64
from agent_world.wire.record import V1

FLAT = sorted(name for name, kind in RECORDS.items() if reader_of(kind) is not None)
SIZE_MAX = 1 << 20
TELLING_OCTETS = bytes.fromhex("00 01 17 18 19 1b 1c 20 38 3b 40 58 60 78 7f 80 a0 d8 f5 f6 f9 ff")
"""Heads of CBOR items of every kind."""


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
    """Every type that a flat record may have, plain and optional."""

    v: U16 = U16(V1)
    colour: Colour
    colour_or_none: Colour | None
    number: int
    number_or_none: ids.I64 | None
    time: ids.TimeMs
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
    many: tuple[bytes, ...]
    numbers_or_none: tuple[U64, ...] | None


@attrs.frozen(slots=True, kw_only=True)
class Endless:
    """A record that may have another of its kind inside."""

    more: Endless | None


def read(kind: type, data: bytes) -> Any:
    reader = reader_of(kind)
    assert reader is not None
    return reader(data)


def general(kind: type, data: bytes) -> Any:
    """The record, or the rule broken, by the general decoder alone."""
    try:
        return record.structure(cbor.decode(data, size_max=SIZE_MAX), kind)
    except DecodeError as error:
        return error.rule


def test_most_records_are_flat_and_the_signed_ones_are() -> None:
    assert {"Signed", "ActionEnvelope", "Vote", "WorldBlock", "RequestFrame"} <= set(FLAT)
    assert {"ResponseFrame", "StorageChallenge", "ChallengeRevealResponse", "FileManifest"} <= set(FLAT)
    assert not {"Hello", "CommitCertificate", "Genesis"} & set(FLAT), "lists of records are not flat"


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(records(Everything))
def test_it_reads_what_the_general_decoder_reads(item: Everything) -> None:
    data = record.to_bytes(item)
    assert read(Everything, data) == item == general(Everything, data)


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_reads_every_example(name: str, variant: str) -> None:
    item = example(RECORDS[name], variant)
    assert read(RECORDS[name], record.to_bytes(item)) == item


@pytest.mark.parametrize("name", FLAT)
def test_it_takes_no_broken_copy(name: str) -> None:
    for what, data, _ in broken_copies(RECORDS[name]):
        assert read(RECORDS[name], data) is None, what


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_takes_no_prefix_and_nothing_longer(name: str, variant: str) -> None:
    data = record.to_bytes(example(RECORDS[name], variant))
    for cut in range(len(data)):
        assert read(RECORDS[name], data[:cut]) is None
    for more in (b"\x00", b"\xf6", data):
        assert read(RECORDS[name], data + more) is None


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", [Everything, *(RECORDS[name] for name in ("WorldBlock", "Vote", "ActionEnvelope"))])
def test_no_changed_byte_is_read_otherwise_than_by_the_general_decoder(kind: type, variant: str) -> None:
    """Each byte in turn becomes each of the values that begin or end something in CBOR."""
    data = record.to_bytes(example(kind, variant))
    for place in range(len(data)):
        near = (data[place] ^ 1, data[place] ^ 0x80, (data[place] + 1) % 256)
        for octet in (*TELLING_OCTETS, *near):
            changed = data[:place] + bytes((octet,)) + data[place + 1 :]
            found = read(kind, changed)
            if found is not None:
                assert found == general(kind, changed)
                assert record.to_bytes(found) == changed


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_integers_in_a_longer_form_are_not_read(width: int) -> None:
    @attrs.frozen(slots=True, kw_only=True)
    class One:
        number: int

    head = record.to_bytes(One(number=0))[:-1]
    info = {1: 24, 2: 25, 4: 26, 8: 27}[width]
    least = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[width]
    for sign in (0x00, 0x20):
        low = head + bytes((sign | info,)) + (least - 1).to_bytes(width, "big")
        assert read(One, low) is None
        assert general(One, low) == "D5"
        enough = head + bytes((sign | info,)) + least.to_bytes(width, "big")
        assert read(One, enough) == general(One, enough) == One(number=least if sign == 0 else -least - 1)


@pytest.mark.parametrize("size", [65_535, 65_536, 300_000])
def test_long_strings_are_read_as_the_general_decoder_reads_them(size: int) -> None:
    item = attrs.evolve(example(Everything, "typical"), octets=bytes(size), many=(bytes(size), b""))
    data = record.to_bytes(item)
    assert read(Everything, data) == item == general(Everything, data)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("base", [0x40, 0x80])
def test_lengths_in_a_longer_form_are_not_read(width: int, base: int) -> None:
    @attrs.frozen(slots=True, kw_only=True)
    class Two:
        many: tuple[U16, ...]
        octets: bytes

    info = {1: 24, 2: 25, 4: 26}[width]
    plain = record.to_bytes(Two(many=(U16(7),), octets=b"7"))
    short = bytes((base | 1,)) + (b"\x07" if base == 0x80 else b"7")
    assert plain.count(short) == 1
    longer = plain.replace(short, bytes((base | info,)) + (1).to_bytes(width, "big") + short[1:])
    assert read(Two, longer) is None
    assert general(Two, longer) == "D5"


def test_long_lists_are_left_to_the_general_decoder() -> None:
    for count, is_read in ((LIST_ITEMS_MAX, True), (LIST_ITEMS_MAX + 1, False)):
        item = attrs.evolve(example(Everything, "typical"), many=(b"",) * count)
        data = record.to_bytes(item)
        assert (read(Everything, data) == item) is is_read
        assert record.from_bytes(Everything, data, size_max=SIZE_MAX) == item


def test_lists_of_lists_and_of_records_and_records_without_an_end_are_not_flat() -> None:
    @attrs.frozen(slots=True, kw_only=True)
    class OfRecords:
        many: tuple[Inner, ...]

    @attrs.frozen(slots=True, kw_only=True)
    class OfLists:
        many: tuple[tuple[U16, ...], ...]

    assert reader_of(OfRecords) is None
    assert reader_of(OfLists) is None
    assert reader_of(Endless) is None


def test_the_limit_holds_for_flat_records_too() -> None:
    data = record.to_bytes(example(Everything, "typical"))
    with pytest.raises(DecodeError) as refused:
        record.from_bytes(Everything, data, size_max=len(data) - 1)
    assert refused.value.rule == "D1"


def test_other_kinds_of_bytes_go_the_general_way() -> None:
    item = example(RECORDS["Vote"], "typical")
    with pytest.raises((DecodeError, TypeError)):
        record.from_bytes(RECORDS["Vote"], memoryview(record.to_bytes(item)), size_max=1)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=6), unique=True, max_size=6))
def test_canonical_order_is_that_of_the_codec(names: list[str]) -> None:
    value = cbor.decode(cbor.encode(dict.fromkeys(names, U64(0))), size_max=SIZE_MAX)
    assert canonical_order(names) == list(value)
