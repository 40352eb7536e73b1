"""The one codec: strict DAG-CBOR (D1).

Strict decode = decode, check the types, encode again, compare the bytes. So there is exactly one encoding of a
value, and a hash of bytes is a hash of the value. Tags are never acted upon: 42 becomes a Cid, any other is an
error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import cbor2

from agent_world.errors import DecodeError, LocalError
from agent_world.wire.cid import Cid
from agent_world.wire.limits import CBOR_DEPTH_MAX, CBOR_ITEMS_MAX

Value = Any
"""dict[str, Value] | list[Value] | str | bytes | int | bool | None | Cid; Any, since mypy has no recursive JSON type
that reads well through cattrs."""
_LINK_TAG: Final = 42
_LINK_HEAD: Final = b"\xd8\x2a\x58\x25\x00"
"""Tag 42, a byte string of 37 octets, the first of them 0; a CID of 36 octets follows."""
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_ARGUMENT_BYTES: Final = {24: 1, 25: 2, 26: 4, 27: 8}
"""Octets that follow an initial byte with this additional information (RFC 8949, section 3)."""
_LARGE_BYTES: Final = 4_096
"""Longer byte strings are large."""
_MANY_LARGE_BYTES: Final = 65_536
"""A value with more octets in large byte strings is put together here: cbor2 needs 1.4 ms for a MiB of them. Of short
ones it writes ten in the time that it takes here for one."""
_CACHED_KEYS_MAX: Final = 32
"""Map keys in one entry of the order cache; the widest record has 17."""
_CACHED_KEY_CHARS_MAX: Final = 512
"""Their characters in all, so that 4,096 entries stay below 10 MiB whatever peers send."""


def _refuse(_value: object, _immutable: bool) -> NoReturn:
    raise DecodeError("D4", "a tag other than 42 (CID)")


def _cid_bytes(value: object) -> bytes:
    # Binary CIDs in DAG-CBOR carry the multibase identity prefix 0x00.
    if type(value) is not bytes or value[:1] != b"\x00":
        raise DecodeError("D6", "tag 42 does not hold a binary CID")
    return value[1:]


def _link(value: object, _immutable: bool) -> Cid:
    return Cid.from_bytes(_cid_bytes(value))


# Tags that cbor2 would act upon by itself; any other goes to the tag hook, which refuses too.
_BUILTIN_TAGS: Final = (
    *range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799,
)  # fmt: skip
_TAGS: Final = {**dict.fromkeys(_BUILTIN_TAGS, _refuse), _LINK_TAG: _link}


def _encode_cid(encoder: cbor2.CBOREncoder, value: object) -> None:
    assert isinstance(value, Cid)
    # The bytes of CBORTag(42, 0x00 and the CID), which the library takes twice as long to write.
    encoder.write(_LINK_HEAD + value.to_bytes())


def _is_ascending(keys: tuple[str, ...]) -> bool:
    """Map keys of DAG-CBOR ascend by length, then by bytes."""
    encoded = [key.encode() for key in keys]
    return encoded == sorted(encoded, key=lambda key: (len(key), key))


_is_ascending_cached: Final = functools.lru_cache(maxsize=4096)(_is_ascending)


def _is_canonical_order(keys: tuple[str, ...]) -> bool:
    """Records repeat their few sets of short keys, so those are remembered; a peer's own long ones are not."""
    if len(keys) <= _CACHED_KEYS_MAX and sum(map(len, keys)) <= _CACHED_KEY_CHARS_MAX:
        return _is_ascending_cached(keys)
    return _is_ascending(keys)


def encode(value: Value) -> bytes:
    """Canonical bytes of a value built from dict (text keys), list, str, bytes, int, bool, None and Cid.

    Raises LocalError for anything else: what is encoded is our own.
    """
    try:
        is_ordered, octets = _check(value)
        # Maps already in order need no sorting, and the plain encoder is 2.5 times as fast as the canonical one.
        return _dumps(value, octets) if is_ordered else cbor2.dumps(value, canonical=True, default=_encode_cid)
    except DecodeError as error:
        raise LocalError(f"cannot encode: {error.detail}") from None
    except UnicodeEncodeError:
        raise LocalError("cannot encode: text with a lone surrogate") from None


def encode_pieces(value: Value) -> list[bytes]:
    """What ``encode`` gives; with much in large byte strings in pieces, so that whoever joins them copies once."""
    try:
        is_ordered, octets = _check(value)
    except DecodeError as error:
        raise LocalError(f"cannot encode: {error.detail}") from None
    if not is_ordered or octets <= _MANY_LARGE_BYTES:
        return [encode(value)]
    pieces: list[bytes] = []
    _append(value, pieces)
    return pieces


def decode(data: bytes, *, size_max: int) -> Value:
    """The value of strictly canonical bytes, at most ``size_max`` of them.

    Raises DecodeError with the rule broken: D1 size, D2 well-formed, D3 types, D4 tags, D5 canonical, D6 CIDs.
    """
    value = _loads(data, size_max, _TAGS)
    # Decoded maps keep the order of the bytes and _check judges it, so the plain encoder gives the canonical form.
    is_ordered, octets = _check(value)
    if not is_ordered:
        raise DecodeError("D5", "map keys are not in canonical order")
    if _dumps(value, octets) != data:
        raise DecodeError("D5", "not the canonical encoding of its value")
    return value


def decode_foreign(data: bytes, *, size_max: int, link: Callable[[bytes], object]) -> Value:
    """What others have written: any well-formed CBOR of definite lengths, in which ``link`` reads the CIDs.

    Neither its types nor its form are judged, so nothing of it may be hashed. Raises DecodeError (D1, D2, D4, D6), and
    what ``link`` raises of it.
    """

    def read(value: object, _immutable: bool) -> object:
        return link(_cid_bytes(value))

    return _loads(data, size_max, {**_TAGS, _LINK_TAG: read})


def _loads(data: bytes, size_max: int, tags: Mapping[int, Callable[[object, bool], object]]) -> Value:
    if len(data) > size_max:
        raise DecodeError("D1", f"{len(data)} bytes are over the limit of {size_max}")
    if len(data) > CBOR_ITEMS_MAX:  # fewer bytes cannot hold more items
        _check_item_count(data)
    try:
        return cbor2.loads(
            data,
            tag_hook=_refuse,
            semantic_decoders=tags,
            max_depth=CBOR_DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
    except DecodeError:
        raise
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        if isinstance(error.__cause__, DecodeError):
            raise error.__cause__ from None
        raise DecodeError("D2", f"not well-formed CBOR: {error}") from None


def _check_item_count(data: bytes) -> None:
    """Refuse more than CBOR_ITEMS_MAX items before any of them becomes a Python object; judges nothing else."""
    at = 0
    for _ in range(CBOR_ITEMS_MAX):
        if at >= len(data):
            return
        major, info = data[at] >> 5, data[at] & 31
        at += 1
        width = _ARGUMENT_BYTES.get(info, 0)
        if major in (2, 3):  # a string: its argument is its length
            at += int.from_bytes(data[at : at + width], "big") if width else info
        at += width
    if at < len(data):
        raise DecodeError("D1", f"more than {CBOR_ITEMS_MAX} data items")


def _dumps(value: Value, octets: int) -> bytes:
    """Encoding of a checked value with its maps in canonical order and ``octets`` octets of large byte strings."""
    if octets <= _MANY_LARGE_BYTES:
        return cbor2.dumps(value, default=_encode_cid)
    pieces: list[bytes] = []
    _append(value, pieces)
    return b"".join(pieces)


def _append(value: Value, pieces: list[bytes]) -> None:
    """The pieces of an encoding; byte strings are not copied. Recursive: cbor2 too refuses what is nested deeply."""
    kind = type(value)
    if kind is bytes:
        pieces.append(_head(0x40, len(value)))
        pieces.append(value)
    elif kind is list:
        pieces.append(_head(0x80, len(value)))
        for item in value:
            _append(item, pieces)
    elif kind is dict:
        pieces.append(_head(0xA0, len(value)))
        for key, item in value.items():
            pieces.append(cbor2.dumps(key))
            _append(item, pieces)
    else:
        pieces.append(cbor2.dumps(value, default=_encode_cid))


def _head(major: int, argument: int) -> bytes:
    """Initial byte and shortest argument (RFC 8949, section 4.2.1)."""
    if argument < 24:
        return bytes((major | argument,))
    for info, width in _ARGUMENT_BYTES.items():
        if argument < 1 << 8 * width:
            return bytes((major | info,)) + argument.to_bytes(width, "big")
    raise LocalError(f"a length of {argument} has no encoding")


def _check(value: Value) -> tuple[bool, int]:
    """Allow only the types of D1; returns whether all maps are in canonical order, and the octets of large
    byte strings.

    Iterative: depth costs no stack.
    """
    is_ordered, octets = True, 0
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is bytes:
            octets += len(item) if len(item) > _LARGE_BYTES else 0
        elif kind is str or kind is bool or item is None or kind is Cid:
            continue
        elif kind is int:
            if not _INT_MIN <= item <= _INT_MAX:
                raise DecodeError("D3", "an integer outside -2^63..2^64-1")
        elif kind is dict:
            for key in item:
                if type(key) is not str:
                    raise DecodeError("D3", f"a map key of type {type(key).__name__}; only text is allowed")
            is_ordered = is_ordered and _is_canonical_order(tuple(item))
            stack.extend(item.values())
        elif kind is list:
            stack.extend(item)
        else:
            raise DecodeError("D3", f"a value of type {kind.__name__}")
    return is_ordered, octets


def links_of(value: Value) -> list[Cid]:
    """Every CID inside a decoded value, in reading order."""
    found: list[Cid] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Cid):
            found.append(item)
        elif isinstance(item, dict):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, list):
            stack.extend(reversed(item))
    return found
