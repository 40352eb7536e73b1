"""Messages of bitswap 1.1.0 and 1.2.0 as far as a server needs them: wantlists read, answers written.

Format: specs.ipfs.tech/bitswap-protocol. Rules X1 to X4 of protocols/bitswap.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

import attrs

from agent_world.errors import DecodeError
from agent_world.wire.cid import HASH_BYTES, ContentHash
from agent_world.wire.limits import BITSWAP_WANTS_MAX
from agent_world.wire.protobuf import fields, number, octets

CID_BYTES_MAX: Final = 168
"""Longest name of a block that is looked at; source: go-bitswap's limit for a CID."""
_BLAKE3_HEAD: Final = bytes((0x1E, HASH_BYTES))
"""Multihash code and length before a digest of ours."""
_CODEC_BYTES_MAX: Final = 5
_VERSION: Final = 1


class Presence(IntEnum):
    """What a peer is told of a block that it is not sent."""

    HAVE = 0
    DONT_HAVE = 1


@attrs.frozen(slots=True)
class Want:
    """One entry of a wantlist."""

    cid: bytes
    """In binary; of any hash and codec."""
    cancel: bool = False
    """The block is not wanted any more."""
    only_presence: bool = False
    """Whether it is there is wanted, not the block."""
    tell_absence: bool = False
    """The peer wants to be told if the block is not there."""
    priority: int = 1

    @property
    def digest(self) -> ContentHash | None:
        """The BLAKE3-256 hash in the CID; None for a CID that names no content a store here could have."""
        head = self.cid[:-HASH_BYTES]
        if not head.endswith(_BLAKE3_HEAD) or head[:1] != bytes((_VERSION,)):
            return None
        codec = head[1 : -len(_BLAKE3_HEAD)]
        is_varint = (
            0 < len(codec) <= _CODEC_BYTES_MAX and codec[-1] < 0x80 and all(octet >= 0x80 for octet in codec[:-1])
        )
        return ContentHash(self.cid[-HASH_BYTES:]) if is_varint else None

    @property
    def prefix(self) -> bytes:
        """The CID without its digest; asked of CIDs with a ``digest`` only."""
        return self.cid[:-HASH_BYTES]


@attrs.frozen(slots=True)
class WantMessage:
    """What of a message concerns a server."""

    wants: tuple[Want, ...]
    full: bool
    """The wantlist replaces all that the peer has wanted before."""
    blocks: int
    """Blocks and presences that came with it; nobody here has asked for any."""
    dropped: int
    """Wants above BITSWAP_WANTS_MAX."""


def open_message(data: bytes) -> WantMessage:
    """Read a message; raises DecodeError (X1, X2)."""
    wants: list[Want] = []
    full, blocks, dropped = False, 0, 0
    for field, value in fields(data, "X1"):
        if field == 1:
            for inner, entry in fields(_octets(value), "X1"):
                if inner == 1:
                    # [IGNORE] X3: a bounded number of wants; what is above it is not even built.
                    if len(wants) < BITSWAP_WANTS_MAX:
                        wants.append(_want(_octets(entry)))
                    else:
                        dropped += 1
                elif inner == 2:
                    full = bool(_number(entry))
        elif field in (2, 3, 4):
            _octets(value)
            blocks += 1
    return WantMessage(tuple(wants), full, blocks, dropped)


def _want(data: bytes) -> Want:
    cid, priority, cancel, kind, tell_absence = b"", 0, 0, 0, 0
    for field, value in fields(data, "X1"):
        match field:
            case 1:
                cid = _octets(value)
            case 2:
                priority = _number(value)
            case 3:
                cancel = _number(value)
            case 4:
                kind = _number(value)
            case 5:
                tell_absence = _number(value)
    # [REJECT] X2: a want names a block.
    if not 0 < len(cid) <= CID_BYTES_MAX:
        raise DecodeError("X2", f"a want for a name of {len(cid)} bytes")
    # int32 on the wire is a varint of 64 bits, negative values with their sign extended.
    signed = (priority & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000
    return Want(cid, bool(cancel), kind == 1, bool(tell_absence), signed)


def want_message(wants: Iterable[Want], *, full: bool = False) -> bytes:
    """A message with a wantlist, as an asker sends it."""
    entries = b"".join(octets(1, _entry(want)) for want in wants)
    return octets(1, entries + (number(2, 1) if full else b""))


def _entry(want: Want) -> bytes:
    data = octets(1, want.cid) + number(2, want.priority & 0xFFFF_FFFF_FFFF_FFFF)
    for field, value in ((3, want.cancel), (4, want.only_presence), (5, want.tell_absence)):
        data += number(field, 1) if value else b""
    return data


def block_field(prefix: bytes, data: bytes) -> bytes:
    """A block as part of an answer."""
    return octets(3, octets(1, prefix) + octets(2, data))


def presence_field(cid: bytes, presence: Presence) -> bytes:
    """Word of a block as part of an answer, in 1.2.0."""
    return octets(4, octets(1, cid) + (number(2, presence) if presence else b""))


@attrs.frozen(slots=True)
class Answer:
    """What an asker finds in a message."""

    blocks: tuple[tuple[bytes, bytes], ...]
    """Prefix and bytes of each."""
    presences: tuple[tuple[bytes, Presence], ...]


def open_answer(data: bytes) -> Answer:
    """Read a message as an asker does; raises DecodeError (X1)."""
    blocks: list[tuple[bytes, bytes]] = []
    presences: list[tuple[bytes, Presence]] = []
    for field, value in fields(data, "X1"):
        if field == 3:
            parts = {inner: _octets(part) for inner, part in fields(_octets(value), "X1") if inner in (1, 2)}
            blocks.append((parts.get(1, b""), parts.get(2, b"")))
        elif field == 4:
            told = dict(fields(_octets(value), "X1"))
            presences.append((_octets(told.get(1, b"")), Presence(min(1, _number(told.get(2, 0))))))
    return Answer(tuple(blocks), tuple(presences))


def _octets(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise DecodeError("X1", "a number where bytes belong")
    return value


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise DecodeError("X1", "bytes where a number belongs")
    return value
