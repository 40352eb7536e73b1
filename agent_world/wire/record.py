"""Frozen records <-> strict bytes.

A record is a frozen attrs class whose field names are the map keys. Unknown keys, missing keys, wrong types and
out-of-range numbers are DecodeErrors; there are no defaults on the wire. A field ``v`` is the version of its
record and must be the one this code knows.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, TypeVar

import attrs
import cattrs
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn

from agent_world.errors import DecodeError
from agent_world.wire import cbor
from agent_world.wire.cid import Cid
from agent_world.wire.field_types import INTEGERS, OCTETS, TEXTS
from agent_world.wire.field_types import V1 as V1  # the one place where record classes get it from
from agent_world.wire.flat_reader import canonical_order, reader_of, without_none
from agent_world.wire.flat_writer import writer_of

R = TypeVar("R")


def _integer(low: int, high: int) -> Callable[[Any, Any], int]:
    def check(value: Any, _type: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise DecodeError("D8", f"{value!r:.40} is not an integer in {low}..{high}")
        return value

    return check


def _octets(length: int | None) -> Callable[[Any, Any], bytes]:
    def check(value: Any, _type: Any) -> bytes:
        if type(value) is not bytes or (length is not None and len(value) != length):
            raise DecodeError("D8", f"expected {'a byte string' if length is None else f'{length} bytes'}")
        return value

    return check


def _text(rule: Callable[[str], str] | None = None) -> Callable[[Any, Any], str]:
    def check(value: Any, _type: Any) -> str:
        if type(value) is not str:
            raise DecodeError("D8", f"expected text, not {type(value).__name__}")
        return value if rule is None else rule(value)

    return check


def _exact(kind: type) -> Callable[[Any, Any], Any]:
    def check(value: Any, _type: Any) -> Any:
        if type(value) is not kind:
            raise DecodeError("D8", f"expected {kind.__name__}, not {type(value).__name__}")
        return value

    return check


def _enum(value: Any, kind: Any) -> Any:
    try:
        return kind(_exact(str)(value, str))
    except ValueError:
        raise DecodeError("D8", f"{value[:40]!r} is not a {kind.__name__}") from None


_CHECKS: Final[dict[Any, Callable[[Any, Any], Any]]] = {
    **{kind: _integer(low, high) for kind, (low, high) in INTEGERS.items()},
    **{kind: _octets(length) for kind, length in OCTETS.items()},
    **{kind: _text(rule) for kind, rule in TEXTS.items()},
    bool: _exact(bool),
    Cid: _exact(Cid),
}

_converter: Final = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False, prefer_attrib_converters=False)
for _type, _check in _CHECKS.items():
    _converter.register_structure_hook(_type, _check)
# By class and not by a predicate: cattrs asks predicates last, and a StrEnum is a str, which has a hook already.
_converter.register_structure_hook(StrEnum, _enum)


@_converter.register_structure_hook_factory(lambda kind: getattr(kind, "__origin__", None) is tuple)
def _tuple_factory(kind: Any) -> Callable[[Any, Any], tuple[Any, ...]]:
    """``tuple[X, ...]`` from a list and from nothing else; cattrs would take any iterable, text too."""
    element = kind.__args__[0]

    def check(value: Any, _type: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise DecodeError("D8", f"expected a list, not {type(value).__name__}")
        return tuple(_converter.structure(item, element) for item in value)

    return check


@_converter.register_structure_hook_factory(lambda kind: hasattr(kind, "__attrs_attrs__"))
def _record_factory(kind: Any) -> Callable[[Any, Any], Any]:
    """A record from a map with exactly its keys; defaults of the Python class do not exist on the wire."""
    names = frozenset(field.name for field in kind.__attrs_attrs__)
    versioned = "v" in names
    build = make_dict_structure_fn(kind, _converter, _cattrs_detailed_validation=False)

    def check(value: Any, _type: Any) -> Any:
        if type(value) is not dict:
            raise DecodeError("D8", f"expected a map ({kind.__name__}), not {type(value).__name__}")
        if value.keys() != names:
            odd = sorted(value.keys() ^ names)
            raise DecodeError("D9", f"{kind.__name__} has a missing or unknown key: {', '.join(odd)[:120]}")
        if versioned and value["v"] != V1:
            raise DecodeError("D10", f"{kind.__name__} version {value['v']!r:.20}; this node knows {V1}")
        return build(value, kind)

    return check


def structure(value: cbor.Value, kind: type[R]) -> R:
    """A decoded value -> record; raises DecodeError (D7 names, D8 types, D9 keys, D10 version)."""
    try:
        return _converter.structure(value, kind)
    except DecodeError:
        raise
    except (BaseValidationError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DecodeError("D8", f"not a {kind.__name__}: {error}") from None


def _compiled_writer(kind: type) -> Callable[[Any], dict[str, cbor.Value]] | None:
    """A function from a record of this class to a map; None for any other class.

    Compiled, as readers are: fields stand in canonical order, which spares the encoder the sorting, and what is a
    value already is taken as it is.
    """
    if kind is Cid or not hasattr(kind, "__attrs_attrs__"):
        return None
    hints = typing.get_type_hints(kind)
    parts = []
    for name in canonical_order([field.name for field in attrs.fields(kind)]):
        hint, _ = without_none(hints[name])
        if hint in _PLAIN:
            parts.append(f"{name!r}: r.{name}")
        elif hint in TEXTS:  # an enumerator is a text as well, and no value
            parts.append(f"{name!r}: r.{name} if type(r.{name}) is str else unstructure(r.{name})")
        else:
            parts.append(f"{name!r}: unstructure(r.{name})")
    scope: dict[str, Any] = {"unstructure": unstructure}
    exec(compile(f"def write(r):\n    return {{{', '.join(parts)}}}", f"<writer of {kind.__name__}>", "exec"), scope)
    write: Callable[[Any], dict[str, cbor.Value]] = scope["write"]
    return write


_PLAIN: Final = frozenset((*INTEGERS, *OCTETS, bool, Cid))
_writer_of: Final[Callable[[Any], Callable[[Any], dict[str, cbor.Value]] | None]] = functools.cache(_compiled_writer)


def unstructure(record: object) -> cbor.Value:
    """A record -> value that ``cbor.encode`` takes; its maps are in canonical order."""
    write = _writer_of(type(record))
    if write is not None:
        return write(record)
    if isinstance(record, StrEnum):
        return record.value
    if isinstance(record, (list, tuple)):
        return [unstructure(item) for item in record]
    return record


def to_bytes(record: object) -> bytes:
    """Canonical bytes of a record."""
    write = writer_of(type(record))
    written = None if write is None else write(record)
    return cbor.encode(unstructure(record)) if written is None else written


def to_pieces(record: object) -> list[bytes]:
    """Canonical bytes of a record with large byte strings, in pieces that nobody has copied yet."""
    return cbor.encode_pieces(unstructure(record))


def from_bytes(kind: type[R], data: bytes, *, size_max: int) -> R:
    """Strict inverse of ``to_bytes``; raises DecodeError, whatever the bytes are."""
    if len(data) <= size_max and type(data) is bytes:
        read = reader_of(kind)
        found: R | None = None if read is None else read(data)
        if found is not None:
            return found
    return structure(cbor.decode(data, size_max=size_max), kind)
