"""Reads a record straight from its canonical bytes, without a general decoder in between.

A record whose fields are all numbers, texts, byte strings, links, enumerations or null has one canonical layout:
its keys stand in a fixed order, so that all between the values is constant. For such a class a function is compiled
(as attrs and cattrs do) that compares the constants and cuts out the values. It gives the record or None, and None
means only "not plain": the general decoder then judges and finds the words for an error. So it can be faster than
the general decoder, but never more lenient: what it accepts encodes to the very bytes it read.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import cbor2

from agent_world.errors import DecodeError
from agent_world.wire.cid import HASH_BYTES, Cid, Codec
from agent_world.wire.field_types import INTEGERS, OCTETS, TEXTS, V1

_LEAST: Final = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
"""Smallest argument that needs this additional information (RFC 8949, section 4.2.1); below it is not canonical."""
_LINK_HEAD: Final = bytes.fromhex("d82a58250001")
"""Tag 42, byte string of 37, identity multibase prefix, CID version 1 (as in ``wire.cbor`` and ``wire.cid``)."""
_LINK_HASH: Final = bytes.fromhex("1e20")
_CODECS: Final = {int(codec): codec for codec in Codec}
_KEYS_MAX: Final = 23
"""Fields of a map whose head is one byte."""
_NULL: Final = 0xF6
_BYTES: Final = 0x40
_TEXT: Final = 0x60
_GLOBALS: Final[dict[str, Any]] = {
    "LEAST": _LEAST,
    "CODECS": _CODECS,
    "Cid": Cid,
    "integer": int.from_bytes,
    # Whatever is wrong, the general decoder says what: too short, no such codec, no UTF-8 or enumerator, broken rule.
    "NOT_PLAIN": (IndexError, KeyError, ValueError, DecodeError),
}


def canonical_order(names: list[str]) -> list[str]:
    """Map keys in the order of DAG-CBOR: by length, then by bytes."""
    return sorted(names, key=lambda name: (len(name.encode()), name.encode()))


def _compiled_reader(kind: type) -> Callable[[bytes], Any] | None:
    hints = typing.get_type_hints(kind)
    if len(hints) > _KEYS_MAX:
        return None
    source = _Source(kind)
    source.constant(cbor2.dumps(dict.fromkeys(hints))[:1])
    for name in canonical_order(list(hints)):
        source.constant(cbor2.dumps(name))
        if name == "v":
            source.version()
        elif not source.field(name, hints[name]):
            return None
    return source.compiled()


reader_of: Final[Callable[[Any], Callable[[bytes], Any] | None]] = functools.cache(_compiled_reader)
"""Compiled reader of a record class, bytes -> record or None; no reader if the class has no flat layout."""


class _Source:
    """Source text of one reader: ``d`` is the data, ``i`` the place in it, ``x_<name>`` a field's value."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._scope = {**_GLOBALS, "kind": kind}
        self._lines: list[str] = ["i = 0"]
        self._arguments: list[str] = []
        self._pending = b""

    def constant(self, octets: bytes) -> None:
        """Expect these bytes next."""
        self._pending += octets

    def version(self) -> None:
        """Expect the only version there is."""
        self.constant(cbor2.dumps(V1))
        self._arguments.append(f"v={V1}")

    def field(self, name: str, hint: Any) -> bool:
        """Read one field's value; False if no code can be written for its type."""
        value = f"x_{name}"
        inner, is_optional = without_none(hint)
        lines = self._value(value, inner, is_optional)
        if lines is None:
            return False
        self._flush()
        if is_optional:
            lines = [f"if d[i] == {_NULL}:", f"    {value} = None", "    i += 1", "else:", *_indented(lines)]
        self._lines += lines
        self._arguments.append(f"{name}={value}")
        return True

    def compiled(self) -> Callable[[bytes], Any]:
        """The function ``read(d)``."""
        self._flush()
        body = [*self._lines, "if i != len(d):", "    return None", f"return kind({', '.join(self._arguments)})"]
        text = ["def read(d):", "    try:", *_indented(_indented(body)), "    except NOT_PLAIN:", "        return None"]
        exec(compile("\n".join(text), f"<reader of {self._kind.__name__}>", "exec"), self._scope)
        read: Callable[[bytes], Any] = self._scope["read"]
        return read

    def _flush(self) -> None:
        if self._pending:
            self._lines += self._expect(self._pending)
            self._pending = b""

    def _value(self, value: str, hint: Any, is_optional: bool) -> list[str] | None:
        if hint in INTEGERS:
            return self._integer(value, *INTEGERS[hint])
        if hint in OCTETS:
            length = OCTETS[hint]
            if length is None:
                return self._string(value, _BYTES)
            return self._fixed(value, cbor2.dumps(bytes(length))[:-length], length, is_optional)
        if hint in TEXTS:
            return [*self._string(value, _TEXT), *self._call(value, TEXTS[hint])]
        if isinstance(hint, type) and issubclass(hint, StrEnum):
            return [*self._string(value, _TEXT), *self._call(value, hint)]
        if hint is Cid:
            return self._link(value, is_optional)
        return None

    def _expect(self, octets: bytes) -> list[str]:
        end = len(octets)
        return [f"if d[i : i + {end}] != {octets!r}:", "    return None", f"i += {end}"]

    def _head(self, octets: bytes, is_optional: bool) -> list[str]:
        """Constant start of a value: joined to the key before it, unless null may stand there."""
        if is_optional:
            return self._expect(octets)
        self._pending += octets
        return []

    def _fixed(self, value: str, head: bytes, length: int, is_optional: bool) -> list[str]:
        return [*self._head(head, is_optional), f"{value} = d[i : i + {length}]", f"i += {length}"]

    def _link(self, value: str, is_optional: bool) -> list[str]:
        return [
            *self._head(_LINK_HEAD, is_optional),
            "codec = CODECS[d[i]]",
            "i += 1",
            *self._expect(_LINK_HASH),
            f"{value} = Cid(codec, d[i : i + {HASH_BYTES}])",
            f"i += {HASH_BYTES}",
        ]

    def _call(self, value: str, rule: Callable[[str], Any] | None) -> list[str]:
        """Text from bytes, judged by its rule."""
        if rule is None:
            return [f"{value} = {value}.decode()"]
        self._scope[f"rule_{value}"] = rule
        return [f"{value} = rule_{value}({value}.decode())"]

    @staticmethod
    def _string(value: str, base: int) -> list[str]:
        # Longer than 64 KiB is left to the general decoder; a slice that comes out short shows in the last check.
        return [
            f"n = d[i] - {base}",
            "if 0 <= n < 24:",
            "    i += 1",
            "elif n == 24:",
            "    n = d[i + 1]",
            "    if n < 24:",
            "        return None",
            "    i += 2",
            "elif n == 25:",
            "    n = d[i + 1] << 8 | d[i + 2]",
            "    if n < 256:",
            "        return None",
            "    i += 3",
            "else:",
            "    return None",
            f"{value} = d[i : i + n]",
            "i += n",
        ]

    @staticmethod
    def _integer(value: str, low: int, high: int) -> list[str]:
        is_signed = low < 0
        head = ["h = d[i]", *(["n = h & 31"] if is_signed else [])]
        info = "n" if is_signed else "h"
        sign = ["if h >= 64:", "    return None", "if h >= 32:", f"    {value} = ~{value}"] if is_signed else []
        return [
            *head,
            f"if {info} < 24:",
            f"    {value} = {info}",
            "    i += 1",
            f"elif {info} < 28:",
            f"    e = i + 1 + (1 << {info} - 24)",
            f"    {value} = integer(d[i + 1 : e], 'big')",
            f"    if {value} < LEAST[{info}]:",
            "        return None",
            "    i = e",
            "else:",
            "    return None",
            *sign,
            f"if not {low} <= {value} <= {high}:",
            "    return None",
        ]


def without_none(hint: Any) -> tuple[Any, bool]:
    """``X | None`` -> (X, True); any other type -> (itself, False)."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        rest = [option for option in typing.get_args(hint) if option is not types.NoneType]
        if len(rest) == 1:
            return rest[0], True
    return hint, False


def _indented(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]
