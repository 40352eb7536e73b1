"""CIDs of other IPFS tools, in both versions."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of
from agent_world.errors import DecodeError
from agent_world.wire.cid import Codec
from agent_world.wire.ipfs_cid import IDENTITY_BYTES_MAX, HashFunction, IpfsCid, IpfsCodec

SHA = hashlib.sha256(b"").digest()
RAW = IpfsCid(1, IpfsCodec.RAW, HashFunction.SHA2_256, SHA)
KNOWN = [
    (IpfsCid(0, IpfsCodec.DAG_PB, HashFunction.SHA2_256, SHA), "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"),
    (RAW, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
    (IpfsCid(1, IpfsCodec.RAW, HashFunction.IDENTITY, b""), "bafkqaaa"),
]  # fmt: skip
"""What every tool prints for empty content."""


@pytest.mark.parametrize(("cid", "text"), KNOWN)
def test_the_text_is_what_other_tools_print(cid: IpfsCid, text: str) -> None:
    assert str(cid) == text
    assert IpfsCid.from_bytes(cid.to_bytes()) == cid
    assert not cid.is_own


@pytest.mark.parametrize("codec", list(Codec))
def test_our_own_cids_are_read_as_they_are(codec: Codec) -> None:
    own = cid_of(b"content", codec)
    read = IpfsCid.from_bytes(own.to_bytes())
    assert (read.to_bytes(), str(read), read.is_own) == (own.to_bytes(), str(own), True)


def test_a_cid_is_cut_off_from_what_comes_behind_it() -> None:
    for cid, _ in KNOWN:
        data = cid.to_bytes()
        assert IpfsCid.split(data + b"block") == (cid, len(data))
        with pytest.raises(DecodeError, match="5 bytes behind"):
            IpfsCid.from_bytes(data + b"block")


def test_names_of_one_block_have_one_multihash() -> None:
    names = [IpfsCid(version, codec, HashFunction.SHA2_256, SHA) for version in (0, 1) for codec in IpfsCodec]
    assert {name.multihash for name in names} == {b"\x12\x20" + SHA}


@pytest.mark.parametrize(("data", "said"), [
    (b"", "ends in the middle"),
    (b"\x12\x20" + SHA[:31], "ends in the middle"),
    (b"\x01\x55\x12\x20" + SHA[:31], "ends in the middle"),
    (b"\x01\x55\x12", "ends in the middle"),
    (b"\x02\x55\x12\x20" + SHA, "no CID"),
    (b"\x01\x55\x12\x1f" + SHA, "a digest of 31 bytes"),
    (b"\x01\x55\x1e\x21" + SHA, "a digest of 33 bytes"),
    (b"\x01\x55\x00\x81\x01" + bytes(129), "a digest of 129 bytes"),
    (b"\x01\x55\x13\x40" + bytes(64), "codec 0x55 and hash 0x13"),
    (b"\x01\xa9\x02\x12\x20" + SHA, "codec 0x129"),
    (b"\x81\x00\x55\x12\x20" + SHA, "ends in the middle"),
    (b"\xff" * 20, "ends in the middle"),
])  # fmt: skip
def test_what_is_none_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        IpfsCid.split(data)


@given(st.sampled_from(IpfsCodec), st.binary(max_size=IDENTITY_BYTES_MAX), st.binary(max_size=5))
def test_content_in_a_cid_comes_back(codec: IpfsCodec, content: bytes, behind: bytes) -> None:
    cid = IpfsCid(1, codec, HashFunction.IDENTITY, content)
    assert IpfsCid.split(cid.to_bytes() + behind) == (cid, len(cid.to_bytes()))
