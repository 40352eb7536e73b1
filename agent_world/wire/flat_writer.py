"""Writes a record straight as its canonical bytes, without a general encoder in between.

The counterpart of ``flat_reader``, for the same classes: a function is compiled that puts the constants between the
fields together with their values. It gives the bytes or None, and None means only "not plain", such as a value of
another type than the field's: the general encoder then decides. What it gives is what that one would give; for an
envelope with its signature in 0.4 us and not in 3.4.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import cbor2

from agent_world.wire.cid import Cid, Codec
from agent_world.wire.field_types import INTEGERS, OCTETS, TEXTS, V1
from agent_world.wire.flat_reader import canonical_order, without_none

_SMALL: Final = tuple(bytes((number,)) for number in range(256))
_LINK_PREFIXES: Final = {
    codec: bytes.fromhex("d82a58250001") + bytes((codec,)) + bytes.fromhex("1e20") for codec in Codec
}
"""Tag 42, byte string of 37, identity multibase prefix, and of the CID all but the digest."""


def head(base: int, argument: int) -> bytes:
    """Initial byte and shortest argument (RFC 8949, section 4.2.1), for arguments of 0 to 2^64 - 1."""
    if argument < 24:
        return _SMALL[base | argument]
    if argument < 1 << 8:
        return bytes((base | 24, argument))
    if argument < 1 << 16:
        return bytes((base | 25, argument >> 8, argument & 0xFF))
    if argument < 1 << 32:
        return _SMALL[base | 26] + argument.to_bytes(4, "big")
    return _SMALL[base | 27] + argument.to_bytes(8, "big")


def integer(value: int) -> bytes:
    """An integer of -2^63 to 2^64 - 1."""
    return head(0x00, value) if value >= 0 else head(0x20, ~value)


_GLOBALS: Final[dict[str, Any]] = {
    "head": head,
    "integer": integer,
    "Cid": Cid,
    "PREFIXES": _LINK_PREFIXES,
    # Text with a lone surrogate, an enumerator that is none: the general encoder says what is wrong.
    "NOT_PLAIN": (UnicodeEncodeError, TypeError, KeyError, AttributeError),
}


_UNDER_WAY: Final[set[type]] = set()
"""Classes whose writer is being compiled: one that has itself inside has none."""


def _compiled_writer(kind: type) -> Callable[[Any], bytes | None] | None:
    if kind is Cid or not hasattr(kind, "__attrs_attrs__"):
        return None
    _UNDER_WAY.add(kind)
    try:
        return _compiled(kind)
    finally:
        _UNDER_WAY.discard(kind)


def _compiled(kind: type) -> Callable[[Any], bytes | None] | None:
    hints = typing.get_type_hints(kind)
    scope = {**_GLOBALS, "kind": kind}
    lines: list[str] = ["if type(r) is not kind:", "    return None"]
    parts: list[str] = []
    constant = cbor2.dumps(dict.fromkeys(hints))[:1] if len(hints) < 24 else head(0xA0, len(hints))
    for name in canonical_order(list(hints)):
        constant += cbor2.dumps(name)
        if name == "v":
            lines += [f"if type(r.v) is not int or r.v != {V1}:", "    return None"]
            constant += cbor2.dumps(V1)
            continue
        value = f"x_{name}"
        inner, is_optional = without_none(hints[name])
        written = _written(value, inner, scope)
        if written is None:
            return None
        lines.append(f"{value} = r.{name}")
        guards, pieces = written
        if is_optional:
            joined = pieces[0] if len(pieces) == 1 else f"b''.join(({', '.join(pieces)}))"
            lines += [f"if {value} is None:", f"    p_{name} = b'\\xf6'", "else:"]
            lines += [f"    {line}" for line in (*guards, f"p_{name} = {joined}")]
            pieces = [f"p_{name}"]
        else:
            lines += guards
        parts += [repr(constant), *pieces]
        constant = b""
    if constant:
        parts.append(repr(constant))
    body = [*lines, f"return b''.join(({', '.join(parts)},))"]
    text = [
        "def write(r):",
        "    try:",
        *(f"        {line}" for line in body),
        "    except NOT_PLAIN:",
        "        return None",
    ]
    exec(compile("\n".join(text), f"<flat writer of {kind.__name__}>", "exec"), scope)
    write: Callable[[Any], bytes | None] = scope["write"]
    return write


writer_of: Final[Callable[[Any], Callable[[Any], bytes | None] | None]] = functools.cache(_compiled_writer)
"""Compiled writer of a record class, record -> bytes or None; no writer if the class has no flat layout."""


def _written(value: str, hint: Any, scope: dict[str, Any]) -> tuple[list[str], list[str]] | None:
    """Lines that leave the writer if ``value`` is not of this type, and the expressions that are its bytes."""

    def unless(condition: str) -> list[str]:
        return [f"if not ({condition}):", "    return None"]

    if hint in INTEGERS:
        low, high = INTEGERS[hint]
        return unless(f"type({value}) is int and {low} <= {value} <= {high}"), [f"integer({value})"]
    if hint in OCTETS:
        length = OCTETS[hint]
        if length is None:
            return unless(f"type({value}) is bytes"), [f"head(0x40, len({value}))", value]
        return unless(f"type({value}) is bytes and len({value}) == {length}"), [repr(head(0x40, length)), value]
    if hint in TEXTS:
        guards = [*unless(f"type({value}) is str"), f"{value} = {value}.encode()"]
        return guards, [f"head(0x60, len({value}))", value]
    if hint is bool:
        return unless(f"type({value}) is bool"), [f"(b'\\xf5' if {value} else b'\\xf4')"]
    if hint is Cid:
        return unless(f"type({value}) is Cid"), [f"PREFIXES[{value}.codec]", f"{value}.digest"]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        scope[f"texts_{value}"] = {each: cbor2.dumps(each.value) for each in hint}
        return [], [f"texts_{value}[{value}]"]
    if typing.get_origin(hint) is tuple:
        return _list_written(value, hint.__args__[0], scope)
    if hasattr(hint, "__attrs_attrs__") and hint not in _UNDER_WAY and (write := writer_of(hint)) is not None:
        scope[f"write_{value}"] = write
        return [f"{value} = write_{value}({value})", *unless(f"{value} is not None")], [value]
    return None


def _list_written(value: str, hint: Any, scope: dict[str, Any]) -> tuple[list[str], list[str]] | None:
    item = _written(f"{value}_item", hint, scope)
    if item is None:
        return None
    guards, pieces = item
    lines = [
        f"if type({value}) is not tuple:",
        "    return None",
        f"{value}_parts = [head(0x80, len({value}))]",
        f"for {value}_item in {value}:",
        *(f"    {line}" for line in guards),
        f"    {value}_parts += ({', '.join(pieces)},)",
    ]
    return lines, [f"b''.join({value}_parts)"]
