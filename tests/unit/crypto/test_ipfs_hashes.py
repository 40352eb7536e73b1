"""Blocks of other IPFS tools against their CIDs."""

from __future__ import annotations

import hashlib

import pytest

from agent_world.crypto.hashing import content_hash
from agent_world.crypto.ipfs_hashes import is_block_of
from agent_world.wire.ipfs_cid import HashFunction, IpfsCid, IpfsCodec

DATA = b"content"


@pytest.mark.parametrize(("function", "digest"), [
    (HashFunction.IDENTITY, DATA),
    (HashFunction.SHA2_256, hashlib.sha256(DATA).digest()),
    (HashFunction.BLAKE3, content_hash(DATA)),
])  # fmt: skip
def test_a_block_is_told_from_any_other(function: HashFunction, digest: bytes) -> None:
    cid = IpfsCid(1, IpfsCodec.RAW, function, digest)
    assert is_block_of(cid, DATA)
    assert not is_block_of(cid, DATA + b"x")
    for other in HashFunction:
        assert is_block_of(IpfsCid(1, IpfsCodec.RAW, other, digest), DATA) is (other is function)
