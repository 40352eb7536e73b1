"""T-2.10: orphans alone go; T-2.15: the exact boundary, pins, and the order by age."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore, CommittedHeight
from agent_world.store.file_audit import audit_file_index
from agent_world.store.file_index import FileIndex
from agent_world.store.home import Home
from agent_world.store.pins import Pin, PinTable
from agent_world.store.pruning import prune_orphan_blobs, prune_unpinned
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import TimeMs


class Rig:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.blobs = LocalCasStore(home)

    def put(self, octet: int, *, pinned: bool = False) -> ContentHash:
        digest = self.blobs.put(bytes([octet]) * 100)
        if pinned:
            pin = Pin(name=str(octet), cid=Cid(Codec.RAW, digest), made_ms=TimeMs(0))
            PinTable(self.home).put(pin)
        return digest


@pytest.fixture
def rig(home: Home) -> Rig:
    return Rig(home)


def test_orphans_alone_are_removed(rig: Rig) -> None:
    pinned, orphan = rig.put(1, pinned=True), rig.put(2)
    file = FileIndex(rig.home, rig.blobs).write_file("f", b"file")
    rig.blobs.put(b"chain", kept=True)
    assert prune_orphan_blobs(rig.home, rig.blobs) == 100
    assert not rig.blobs.has(orphan)
    assert rig.blobs.has_many([pinned, file.content_hash]) == {pinned, file.content_hash}
    assert prune_orphan_blobs(rig.home, rig.blobs) == 0


def test_t_2_15_the_boundary_frees_nothing_and_the_oldest_goes_first(rig: Rig) -> None:
    digests = [rig.put(octet) for octet in range(4)]
    rig.blobs.put(bytes(5_000), kept=True)  # counts for nothing
    assert prune_unpinned(rig.home, rig.blobs, 400) == 0
    assert prune_unpinned(rig.home, rig.blobs, 399) == 100
    assert [rig.blobs.has(digest) for digest in digests] == [False, True, True, True]
    assert prune_unpinned(rig.home, rig.blobs, 101) == 200


def test_t_2_15_a_store_of_pins_frees_nothing(rig: Rig) -> None:
    digests = [rig.put(octet, pinned=True) for octet in range(3)]
    assert prune_unpinned(rig.home, rig.blobs, 0) == 0
    assert rig.blobs.has_many(digests) == set(digests)


def test_content_that_only_the_last_state_reaches_is_no_orphan(
    rig: Rig, height_of: Callable[..., CommittedHeight]
) -> None:
    """What an agent has put here and an object names, on a node that stores nothing for the world."""
    content, old = rig.put(1), rig.put(2)
    states = [cbor.encode({"content": Cid(Codec.RAW, digest)}) for digest in (old, content)]
    chain = ChainStore(rig.home, rig.blobs)
    parent = rig.home.genesis_hash
    for height, state in enumerate(states, 1):
        committed = height_of(height, parent, salt=state, blobs=(state,))
        chain.commit_height(committed)
        parent = hash32(committed.block)
    assert audit_file_index(rig.home, rig.blobs).orphan_blob_hashes == [old]
    assert prune_orphan_blobs(rig.home, rig.blobs) == 100
    assert rig.blobs.has_many([content, old]) == {content}
