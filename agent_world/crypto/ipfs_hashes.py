"""The hash functions of blocks that come from other IPFS tools; content of Agent World has BLAKE3-256 alone (D2)."""

from __future__ import annotations

import hashlib

from agent_world.crypto.hashing import content_hash
from agent_world.wire.ipfs_cid import HashFunction, IpfsCid


def is_block_of(cid: IpfsCid, data: bytes) -> bool:
    """Whether ``data`` is what ``cid`` names."""
    match cid.function:
        case HashFunction.IDENTITY:
            return data == cid.digest
        case HashFunction.SHA2_256:
            return hashlib.sha256(data).digest() == cid.digest
        case HashFunction.BLAKE3:
            return content_hash(data) == cid.digest
