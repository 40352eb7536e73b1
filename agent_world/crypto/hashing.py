"""BLAKE3-256 everywhere (D2)."""

from __future__ import annotations

from blake3 import blake3

from agent_world.errors import BlobHashMismatch
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import ActorId, Hash32, PublicKey, actor_id_text


def hash32(data: bytes) -> Hash32:
    """BLAKE3-256 of ``data``."""
    return Hash32(blake3(data).digest())


def content_hash(data: bytes) -> ContentHash:
    """Name of ``data`` as a blob."""
    return ContentHash(blake3(data).digest())


def cid_of(data: bytes, codec: Codec = Codec.DAG_CBOR) -> Cid:
    """Link to ``data``."""
    return Cid(codec, content_hash(data))


def verify_blob(data: bytes, expected: ContentHash) -> bytes:
    """``data`` if it hashes to ``expected``; raises BlobHashMismatch naming both hashes."""
    actual = content_hash(data)
    if actual != expected:
        raise BlobHashMismatch(f"expected {expected.hex()}, the bytes hash to {actual.hex()}")
    return data


def actor_id_of(public_key: PublicKey) -> ActorId:
    """Actor id of an agent's key (D3)."""
    return actor_id_text(blake3(public_key).digest()[:20])
