"""wire/flat_reader.py: encodings of the right value that are not the canonical one, and its own limits."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from agent_world.errors import DecodeError
from agent_world.wire import cbor, ids, record
from agent_world.wire.cid import Cid
from agent_world.wire.flat_reader import reader_of

VALUE: dict[str, Any] = {
    "number": 1,
    "signed": -1,
    "text": "a",
    "octets": b"",
    "link": Cid.from_bytes(bytes.fromhex("01711e20") + b"l" * 32),
}


@attrs.frozen(slots=True, kw_only=True)
class Sample:
    """One field of each sort whose head may be written in a longer way."""

    number: ids.U16
    signed: ids.I64
    text: ids.Name
    octets: bytes
    link: Cid


def read(data: bytes) -> Sample | None:
    reader = reader_of(Sample)
    assert reader is not None
    found: Sample | None = reader(data)
    return found


@pytest.mark.parametrize(
    ("plain", "loose"),
    [
        (b"fnumber\x01", b"fnumber\x18\x01"),
        (b"fnumber\x01", b"fnumber\x19\x00\x01"),
        (b"fnumber\x01", b"fnumber\x1b\x00\x00\x00\x00\x00\x00\x00\x01"),
        (b"fsigned\x20", b"fsigned\x38\x00"),
        (b"fsigned\x20", b"fsigned\x39\x00\x00"),
        (b"foctets\x40", b"foctets\x58\x00"),
        (b"foctets\x40", b"foctets\x59\x00\x00"),
        (b"foctets\x40", b"foctets\x5a\x00\x00\x00\x00"),
        (b"foctets\x40", b"foctets\x5b\x00\x00\x00\x00\x00\x00\x00\x00"),
        (b"foctets\x40", b"foctets\x5f\xff"),
        (b"dtextaa", b"dtextx\x01a"),
        (b"dtextaa", b"dtexty\x00\x01a"),
        (b"dtextaa", b"dtext\x7faa\xff"),
        (b"\xd8\x2a", b"\xd9\x00\x2a"),
    ],
)
def test_a_longer_head_is_not_read(plain: bytes, loose: bytes) -> None:
    data = cbor.encode(VALUE)
    assert read(data) == record.structure(VALUE, Sample)
    assert plain in data
    changed = data.replace(plain, loose)
    assert read(changed) is None
    with pytest.raises(DecodeError):
        record.from_bytes(Sample, changed, size_max=999)


@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, 65_535, 65_536, 1 << 20])
def test_strings_of_every_length_are_read(length: int) -> None:
    found = read(cbor.encode({**VALUE, "octets": b"o" * length}))
    assert found is not None
    assert found.octets == b"o" * length


def test_a_class_of_many_fields_has_no_reader() -> None:
    names = [f"field_{number}" for number in range(24)]
    few = attrs.make_class("Few", {name: attrs.field(type=int) for name in names[:23]}, kw_only=True)
    many = attrs.make_class("Many", {name: attrs.field(type=int) for name in names}, kw_only=True)
    reader = reader_of(few)
    assert reader is not None
    values = dict.fromkeys(names[:23], 7)
    assert reader(cbor.encode(values)) == few(**values)
    assert reader_of(many) is None


def test_the_size_limit_comes_first() -> None:
    data = cbor.encode(VALUE)
    assert record.from_bytes(Sample, data, size_max=len(data)).number == 1
    with pytest.raises(DecodeError, match="D1"):
        record.from_bytes(Sample, data, size_max=len(data) - 1)
