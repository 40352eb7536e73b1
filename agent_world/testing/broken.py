"""Broken copies of a record's bytes, each of which breaks exactly one codec rule (protocols/codec)."""

from __future__ import annotations

import types
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, Union, get_args, get_origin

from agent_world.testing.examples import BOUNDS, LENGTHS, example
from agent_world.testing.record_catalogue import fields_of
from agent_world.wire import cbor, ids, record
from agent_world.wire.cid import Cid

_BAD_NAMES: Final[dict[Any, str]] = {
    ids.WorldId: "Paris",
    ids.ValidatorId: "-a",
    ids.ActorId: "a" * 31,
    ids.PeerId: "12D3KooW",
    ids.Name: " a",
    ids.Label: "a..b",
}


def broken_copies(kind: type) -> Iterator[tuple[str, bytes, str]]:
    """(what was done, bytes, rule broken) for the ``lowest`` example of a record."""
    value = record.unstructure(example(kind, "lowest"))
    good = cbor.encode(value)
    yield "trailing byte", good + b"\x00", "D5"
    yield "last byte missing", good[:-1], "D2"
    yield "a list of its values", cbor.encode([value[field.name] for field in fields_of(kind)]), "D8"
    yield "unknown key", cbor.encode({**value, "zz": 0}), "D9"
    for field in fields_of(kind):
        rest = {name: item for name, item in value.items() if name != field.name}
        yield f"without {field.name}", cbor.encode(rest), "D9"
        if field.name == "v":
            yield "v is 2", cbor.encode({**value, "v": 2}), "D10"
            continue
        for what, bad, rule in bad_values(field.type):
            yield f"{field.name}: {what}", cbor.encode({**value, field.name: bad}), rule


def bad_values(kind: Any) -> Iterator[tuple[str, Any, str]]:
    """(what is wrong, value, rule broken) for one field type."""
    if get_origin(kind) in (Union, types.UnionType):
        yield from bad_values(next(part for part in get_args(kind) if part is not type(None)))
        return
    if kind in BOUNDS:
        low, high = BOUNDS[kind]
        yield "text instead of an integer", str(low), "D8"
        if low > -(2**63):
            yield f"{low - 1} is below its range", low - 1, "D8"
        if high < 2**64 - 1:
            yield f"{high + 1} is above its range", high + 1, "D8"
    elif kind in LENGTHS:
        yield f"{LENGTHS[kind] - 1} bytes", bytes(LENGTHS[kind] - 1), "D8"
        yield f"{LENGTHS[kind] + 1} bytes", bytes(LENGTHS[kind] + 1), "D8"
    elif kind in _BAD_NAMES:
        yield f"{_BAD_NAMES[kind]!r}", _BAD_NAMES[kind], "D7"
        yield "bytes instead of text", b"a", "D8"
    elif isinstance(kind, type) and issubclass(kind, StrEnum):
        yield "no word of its list", "no_such_word", "D8"
    else:
        yield "the wrong type", _wrong_type(kind), "D8"


def _wrong_type(kind: Any) -> Any:
    if kind is bool:
        return 0
    if kind is bytes:
        return "text"
    if kind is str:
        return b"bytes"
    if kind is Cid:
        return example(Cid, "lowest").to_bytes()  # the octets of a CID are no link
    if get_origin(kind) is tuple:
        return {}
    return []  # for a record
