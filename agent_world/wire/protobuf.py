"""The little of protobuf that IPFS formats need: varints and length-delimited fields, written and read within bounds.

Format: protobuf.dev/programming-guides/encoding. A generated codec would build every entry of a message before anybody
could count them; this reader hands out one field after the other, so that its caller can stop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent_world.errors import DecodeError

VARINT_BYTES_MAX: Final = 10
"""A varint of 64 bits."""
_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH: Final = 2
_FIXED32: Final = 5
_U64: Final = 2**64 - 1


def varint(value: int) -> bytes:
    """Unsigned LEB128 of a value that is not negative; as multiformats has it, too."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A field with an integer."""
    return varint(field << 3 | _VARINT) + varint(value)


def octets(field: int, value: bytes) -> bytes:
    """A field with bytes, a text in UTF-8 or another message."""
    return varint(field << 3 | _LENGTH) + varint(len(value)) + value


def fields(data: bytes, rule: str) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of the fields in order; those of fixed width, which IPFS formats do not use, are left out.

    Raises DecodeError, naming ``rule``, at the first byte that is no protobuf.
    """
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at, rule)
        kind = key & 7
        if not 0 < key >> 3 < 2**29:
            raise DecodeError(rule, f"field number {key >> 3} is none of protobuf")
        if kind == _VARINT:
            value, at = _read_varint(data, at, rule)
            yield key >> 3, value
            continue
        if kind == _LENGTH:
            size, at = _read_varint(data, at, rule)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise DecodeError(rule, f"wire type {kind} is not known")
        if size > len(data) - at:
            raise DecodeError(rule, f"a field of {size} bytes where {len(data) - at} are left")
        at += size
        if kind == _LENGTH:
            yield key >> 3, data[at - size : at]


def _read_varint(data: bytes, at: int, rule: str) -> tuple[int, int]:
    """Value of the varint at ``at``, and where it ends."""
    value = 0
    for place, octet in enumerate(data[at : at + VARINT_BYTES_MAX]):
        value |= (octet & 0x7F) << 7 * place
        if octet < 0x80:
            if value > _U64:
                break
            return value, at + place + 1
    raise DecodeError(rule, "a varint that does not end within 64 bits")
