"""Content identifiers: CIDv1 with a BLAKE3-256 multihash, codec raw or dag-cbor (D2), and nothing else."""

from __future__ import annotations

import base64
import binascii
from enum import IntEnum
from typing import Final, NewType

import attrs

from agent_world.errors import DecodeError

ContentHash = NewType("ContentHash", bytes)
"""BLAKE3-256 of a blob's bytes, 32 bytes; the key of a BlobStore; 64 hex digits for people."""

HASH_BYTES: Final = 32
_MULTIHASH_PREFIX: Final = bytes((0x1E, HASH_BYTES))  # multicodec blake3 = 0x1e, then the digest's length


class Codec(IntEnum):
    """What the named bytes are; source: the multicodec table."""

    RAW = 0x55
    DAG_CBOR = 0x71


_PREFIXES: Final = {codec: bytes((1, codec)) + _MULTIHASH_PREFIX for codec in Codec}


@attrs.frozen(order=True, slots=True)
class Cid:
    """Link to stored bytes: ``digest`` is their BLAKE3-256, ``codec`` says whether they hold further links."""

    codec: Codec
    digest: ContentHash

    def __attrs_post_init__(self) -> None:
        if len(self.digest) != HASH_BYTES:
            raise DecodeError("D6", f"a digest has {HASH_BYTES} bytes, not {len(self.digest)}")

    def to_bytes(self) -> bytes:
        """Binary CIDv1: version, codec, multihash; 36 bytes."""
        return _PREFIXES[self.codec] + self.digest

    @classmethod
    def from_bytes(cls, data: bytes) -> Cid:
        """Inverse of ``to_bytes``; raises DecodeError for any other version, codec or hash."""
        if len(data) != 4 + HASH_BYTES or data[0] != 1 or data[2:4] != _MULTIHASH_PREFIX:
            raise DecodeError("D6", "not a CIDv1 with a BLAKE3-256 multihash")
        try:
            codec = Codec(data[1])
        except ValueError:
            raise DecodeError("D6", f"codec 0x{data[1]:02x} is neither raw nor dag-cbor") from None
        return cls(codec, ContentHash(data[4:]))

    def __str__(self) -> str:
        """Text form of people and IPFS tools: multibase base32 lower case, as in ``bafyr4i...``."""
        return base32_text(self.to_bytes())

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Inverse of ``str``; raises DecodeError."""
        body = text[1:].upper()
        try:
            data = base64.b32decode(body + "=" * (-len(body) % 8))
        except (binascii.Error, ValueError):
            raise DecodeError("D6", f"{text[:80]!r} is not a CID in base32") from None
        cid = cls.from_bytes(data)
        if str(cid) != text:
            raise DecodeError("D6", f"{text[:80]!r} is not a CID in canonical base32")
        return cid


def base32_text(data: bytes) -> str:
    """A binary CID as text: multibase base32, lower case, without padding."""
    return "b" + base64.b32encode(data).decode().lower().rstrip("=")


def parse_content_hash(text: str) -> ContentHash:
    """64 lower-case hex digits -> ContentHash; raises DecodeError for anything else, also upper case."""
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != HASH_BYTES or digest.hex() != text:
        raise DecodeError("D6", f"{text[:80]!r} is not a content hash of 64 lower-case hex digits")
    return ContentHash(digest)
