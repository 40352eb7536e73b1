"""Proofs that a key has a value, or none, under a root that the reader trusts (D6)."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.errors import BlobHashMismatch, DecodeError
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, ContentHash
from agent_world.world.trie import NodeCache, NodeSource, Trie
from agent_world.world.trie_node import LEVELS_MAX

PROOF_BLOBS_MAX: Final = LEVELS_MAX + 1
"""One node a level and, for a large value, its blob."""


@attrs.frozen(slots=True)
class Proof:
    """The stored bytes of the nodes from the root to where the key is or would be, then a large value's own."""

    nodes: tuple[bytes, ...]


def prove(root: Cid, key: bytes, source: NodeSource) -> Proof:
    """Proof of inclusion or absence of ``key``. Raises what ``Trie.get`` raises."""
    read: list[bytes] = []

    def record(content_hash: ContentHash) -> bytes:
        data = source(content_hash)
        read.append(data)
        return data

    Trie(root, NodeCache(record)).get(key)
    return Proof(tuple(read))


def verify_proof(root: Cid, key: bytes, proof: Proof) -> bytes | None:
    """The encoded value of ``key`` under ``root``, or None if the proof shows that it has none.

    Raises DecodeError when the proof does not show either: T1-T4 for a malformed node, T5 for wrong, missing or
    superfluous ones.
    """
    rest = iter(proof.nodes[: PROOF_BLOBS_MAX + 1])

    def replay(_content_hash: ContentHash) -> bytes:
        data = next(rest, None)
        if data is None:
            raise DecodeError("T5", "the proof ends before the key's place")
        return data

    try:
        value = Trie(root, NodeCache(replay)).get(key)
    except BlobHashMismatch as error:
        raise DecodeError("T5", f"a node of the proof is not the one linked: {error}") from None
    if next(rest, None) is not None:
        raise DecodeError("T5", "the proof holds more nodes than the path needs")
    return None if value is None else cbor.encode(value)
