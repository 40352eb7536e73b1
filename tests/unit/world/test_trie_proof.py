from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of
from agent_world.errors import BlobNotFound, DecodeError
from agent_world.wire import cbor
from agent_world.wire.cid import ContentHash
from agent_world.world.trie import NodeCache, Trie
from agent_world.world.trie_proof import PROOF_BLOBS_MAX, Proof, prove, verify_proof

ENTRIES = {**{b"key/%d" % n: {"amount": n} for n in range(1_500)}, b"large": "x" * 3_000}


def nothing(digest: ContentHash) -> bytes:
    raise BlobNotFound(digest.hex())


ROOT, BLOBS = Trie(None, NodeCache(nothing)).update(ENTRIES).flush()


def proof_of(key: bytes) -> Proof:
    return prove(ROOT, key, BLOBS.__getitem__)


@given(key=st.one_of(st.sampled_from(sorted(ENTRIES)), st.binary(min_size=1, max_size=9)))
@settings(deadline=None, max_examples=60)
def test_a_proof_shows_the_value_or_that_there_is_none(key: bytes) -> None:
    expected = None if key not in ENTRIES else cbor.encode(ENTRIES[key])
    assert verify_proof(ROOT, key, proof_of(key)) == expected


def test_a_proof_is_as_long_as_the_path() -> None:
    assert 2 <= len(proof_of(b"key/1").nodes) <= 4
    assert len(proof_of(b"large").nodes) <= 5
    assert proof_of(b"large").nodes[-1] == cbor.encode("x" * 3_000)


@pytest.mark.parametrize("key", [b"key/1", b"large", b"absent"])
def test_every_missing_superfluous_swapped_or_altered_node_is_noticed(key: bytes) -> None:
    nodes = proof_of(key).nodes
    bad = [nodes[:index] + nodes[index + 1 :] for index in range(len(nodes))]
    bad += [(*nodes[:index], nodes[index][:-1] + b"!", *nodes[index + 1 :]) for index in range(len(nodes))]
    bad += [(*nodes, nodes[0]), tuple(reversed(nodes)), (), nodes + nodes * PROOF_BLOBS_MAX]
    for broken in bad:
        with pytest.raises(DecodeError):
            verify_proof(ROOT, key, Proof(broken))


def test_a_proof_holds_for_its_root_and_key_only() -> None:
    other, _ = Trie(None, NodeCache(nothing)).update({**ENTRIES, b"key/1": {"amount": 2}}).flush()
    with pytest.raises(DecodeError, match="T5"):
        verify_proof(other, b"key/1", proof_of(b"key/1"))
    for key in (b"key/2", b"key/3", b"key/4"):
        if proof_of(key).nodes != proof_of(b"key/1").nodes:
            with pytest.raises(DecodeError):
                verify_proof(ROOT, key, proof_of(b"key/1"))


def test_an_endless_proof_ends() -> None:
    nodes: list[bytes] = []
    below = cid_of(b"end")
    for _ in range(PROOF_BLOBS_MAX + 5):
        nodes.append(cbor.encode([bytes((255, 255, 255, 255)), [below] * 32]))
        below = cid_of(nodes[-1])
    root = cbor.encode({"hashAlg": 0x1E, "bucketSize": 3, "hamt": [bytes((255,) * 4), [below] * 32]})
    with pytest.raises(DecodeError, match="T4"):
        verify_proof(cid_of(root), b"key", Proof((root, *reversed(nodes))))
