"""A whole state as transfer packs of its nodes, and back (D6). Deterministic: equal states give equal packs.

A pack holds nodes and large values of the trie as they are stored, in the order of a walk from the root down, each
once, as many as fit into CHUNK_BYTES. A large value that fits into no pack is left out: whoever restores the state
finds its link and fetches it like any blob.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import attrs

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import DecodeError
from agent_world.wire import record
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.limits import CHUNK_BYTES
from agent_world.wire.snapshot import StatePack
from agent_world.world.state import read_state_root
from agent_world.world.trie import Blobs
from agent_world.world.trie_node import BIT_WIDTH, Bucket, decode_node

PACK_OVERHEAD_BYTES: Final = 32
"""What a pack has around its nodes: a map of two keys, a version and the length of the list."""
NODE_OVERHEAD_BYTES: Final = 5
"""What a node has around its bytes: the head of a byte string."""

NodeReader: TypeAlias = "Callable[[ContentHash], bytes]"
"""Verified bytes of a stored node; raises whatever its store raises for one that is missing or damaged."""


@attrs.frozen(slots=True)
class PackPlan:
    """One pack: its name, its size, and what it is made of, so that its bytes need not be kept."""

    content: Cid
    size_bytes: int
    nodes: tuple[ContentHash, ...]


def state_blobs(state_root: Cid, get: NodeReader) -> Iterator[tuple[ContentHash, bytes]]:
    """Every stored part of a state once, from the root down: the StateRoot, nodes, large values. Raises as ``get``."""
    data = get(state_root.digest)
    yield state_root.digest, data
    seen = {state_root.digest}
    # (link, level, prefix); a level below 0 marks a large value, which has nothing below it
    stack = [(entry.root, 0, 0) for entry in reversed(read_state_root(data).namespaces)]
    while stack:
        cid, level, prefix = stack.pop()
        if cid.digest in seen:
            continue
        seen.add(cid.digest)
        data = get(cid.digest)
        yield cid.digest, data
        if level >= 0:
            stack += reversed(_below(data, level, prefix))


def _below(data: bytes, level: int, prefix: int) -> list[tuple[Cid, int, int]]:
    links: list[tuple[Cid, int, int]] = []
    for slot, element in decode_node(data, level, prefix).by_slot().items():
        if isinstance(element, Bucket):
            links += [(value, -1, 0) for _, value in element.entries if type(value) is Cid]
        elif isinstance(element, Cid):
            links.append((element, level + 1, prefix << BIT_WIDTH | slot))
    return links


def plan_packs(state_root: Cid, get: NodeReader) -> Iterator[PackPlan | None]:
    """The packs of a state in order; None after every blob that completes none, so that the caller can pause."""
    hashes: list[ContentHash] = []
    nodes: list[bytes] = []
    size = PACK_OVERHEAD_BYTES
    for digest, data in state_blobs(state_root, get):
        more = len(data) + NODE_OVERHEAD_BYTES
        if PACK_OVERHEAD_BYTES + more > CHUNK_BYTES:
            yield None
            continue
        if size + more > CHUNK_BYTES:
            yield _planned(hashes, nodes)
            hashes, nodes, size = [], [], PACK_OVERHEAD_BYTES
        hashes.append(digest)
        nodes.append(data)
        size += more
        yield None
    yield _planned(hashes, nodes)


def encode_pack(nodes: Sequence[bytes]) -> bytes:
    """The bytes of a pack."""
    return record.to_bytes(StatePack(nodes=tuple(nodes)))


def open_pack(data: bytes) -> Blobs:
    """The blobs of a pack by their hash; raises DecodeError. Which of them belong to a state only a walk shows."""
    # [REJECT] T9: a pack is a StatePack of at most 256 KiB.
    if len(data) > CHUNK_BYTES:
        raise DecodeError("T9", f"a pack of {len(data)} bytes is over {CHUNK_BYTES}")
    return {content_hash(node): node for node in record.from_bytes(StatePack, data, size_max=CHUNK_BYTES).nodes}


def _planned(hashes: list[ContentHash], nodes: list[bytes]) -> PackPlan:
    data = encode_pack(nodes)
    return PackPlan(cid_of(data), len(data), tuple(hashes))
