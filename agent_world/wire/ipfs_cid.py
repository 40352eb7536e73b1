"""CIDs as other IPFS tools make them: version 0 and 1, with the codecs and hash functions that their files have.

Nothing of Agent World is named by these; ``Cid`` is. Format: github.com/multiformats/cid, and the multicodec table.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Self

import attrs
import base58

from agent_world.errors import DecodeError
from agent_world.wire.cid import HASH_BYTES, base32_text
from agent_world.wire.protobuf import varint

IDENTITY_BYTES_MAX: Final = 128
"""Content that may stand in a CID itself; source: Kubo's limit."""
_VARINT_BYTES_MAX: Final = 9
_V0_HEAD: Final = bytes((0x12, HASH_BYTES))


class IpfsCodec(IntEnum):
    """What a UnixFS file is made of."""

    RAW = 0x55
    DAG_PB = 0x70
    DAG_CBOR = 0x71
    """No file; the records of Agent World."""


class HashFunction(IntEnum):
    """How a block is named."""

    IDENTITY = 0x00
    """The digest is the block."""
    SHA2_256 = 0x12
    BLAKE3 = 0x1E


@attrs.frozen(slots=True)
class IpfsCid:
    """Name of a block; two names of different versions or codecs may name one block, by ``multihash``."""

    version: int
    codec: IpfsCodec
    function: HashFunction
    digest: bytes

    @property
    def multihash(self) -> bytes:
        """Under which a block is found."""
        return varint(self.function) + varint(len(self.digest)) + self.digest

    @property
    def is_own(self) -> bool:
        """Whether a store of Agent World knows content by it."""
        return self.function is HashFunction.BLAKE3 and self.codec is not IpfsCodec.DAG_PB

    def to_bytes(self) -> bytes:
        """Binary form."""
        return self.multihash if self.version == 0 else varint(1) + varint(self.codec) + self.multihash

    def __str__(self) -> str:
        """As IPFS tools print it: ``Qm...`` for version 0, else base32 as in ``bafybei...``."""
        return base58.b58encode(self.multihash).decode() if self.version == 0 else base32_text(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Inverse of ``to_bytes``; raises DecodeError (D6)."""
        cid, size = cls.split(data)
        if size != len(data):
            raise DecodeError("D6", f"{len(data) - size} bytes behind a CID")
        return cid

    @classmethod
    def split(cls, data: bytes) -> tuple[Self, int]:
        """The CID that ``data`` begins with, and how many bytes it has; raises DecodeError (D6)."""
        if data.startswith(_V0_HEAD):
            return cls(0, IpfsCodec.DAG_PB, HashFunction.SHA2_256, _digest(data, 2, HASH_BYTES)), 2 + HASH_BYTES
        version, at = _number(data, 0)
        if version != 1:
            raise DecodeError("D6", "no CID of version 0 or 1")
        codec, at = _number(data, at)
        function, at = _number(data, at)
        size, at = _number(data, at)
        try:
            known = IpfsCodec(codec), HashFunction(function)
        except ValueError:
            raise DecodeError("D6", f"a CID with codec {codec:#x} and hash {function:#x} is not known here") from None
        is_identity = known[1] is HashFunction.IDENTITY
        if size > IDENTITY_BYTES_MAX if is_identity else size != HASH_BYTES:
            raise DecodeError("D6", f"a CID with a digest of {size} bytes")
        return cls(1, *known, _digest(data, at, size)), at + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, octet in enumerate(data[at : at + _VARINT_BYTES_MAX]):
        value |= (octet & 0x7F) << 7 * place
        if octet < 0x80:
            if place and not octet:
                break  # padded: multiformats has one form of a number
            return value, at + place + 1
    raise DecodeError("D6", "a CID that ends in the middle")


def _digest(data: bytes, at: int, size: int) -> bytes:
    if len(data) < at + size:
        raise DecodeError("D6", "a CID that ends in the middle")
    return data[at : at + size]
