"""crypto/hashing.py: BLAKE3-256 and the names made of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import actor_id_of, cid_of, content_hash, hash32, verify_blob
from agent_world.errors import BlobHashMismatch
from agent_world.wire.cid import Codec, ContentHash
from agent_world.wire.ids import PublicKey, check_actor_id

EMPTY = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
"""BLAKE3 of nothing; source: the test vectors of the BLAKE3 repository."""


def test_known_digests() -> None:
    assert hash32(b"").hex() == EMPTY
    assert content_hash(b"").hex() == EMPTY
    assert hash32(bytes(range(3))).hex() == "e1be4d7a8ab5560aa4199eea339849ba8e293d55ca0a81006726d184519e647f"


def test_a_formula_of_the_specification() -> None:
    """BLAKE3 of the text ``seq-1:100:1`` is the reference's lease id."""
    assert hash32(b"seq-1:100:1").hex() == "824406ee3bdbdf57974d0ab3e562d3ae04f05fc12ca6d9dd6f20aae082489ccf"


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200), st.sampled_from(Codec))
def test_a_link_names_its_bytes(data: bytes, codec: Codec) -> None:
    cid = cid_of(data, codec)
    assert (cid.codec, cid.digest) == (codec, content_hash(data))
    assert verify_blob(data, cid.digest) is data


def test_links_are_to_dag_cbor_unless_said_otherwise() -> None:
    assert cid_of(b"\xa0").codec is Codec.DAG_CBOR


def test_other_bytes_are_refused_with_both_hashes() -> None:
    expected = content_hash(b"a")
    with pytest.raises(BlobHashMismatch) as refused:
        verify_blob(b"b", expected)
    assert expected.hex() in str(refused.value)
    assert content_hash(b"b").hex() in str(refused.value)
    with pytest.raises(BlobHashMismatch):
        verify_blob(b"a", ContentHash(expected[:-1]))


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=32, max_size=32))
def test_actor_ids_are_of_their_form(key: bytes) -> None:
    assert check_actor_id(actor_id_of(PublicKey(key)))


def test_actor_ids_differ_by_key() -> None:
    assert actor_id_of(PublicKey(bytes(32))) == "flnihqmbtjjxfwxbeoh4dxwrepebat62"
    assert actor_id_of(PublicKey(b"\x01" * 32)) != actor_id_of(PublicKey(bytes(32)))
