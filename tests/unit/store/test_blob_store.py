"""What parts ask of a store, and that the store of a home has it."""

from __future__ import annotations

from agent_world.crypto.hashing import content_hash
from agent_world.store.blob_store import BlobStat, BlobStore
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home


def test_the_store_of_a_home_satisfies_the_protocol(home: Home) -> None:
    checked: BlobStore = LocalCasStore(home)
    digest = checked.put(b"data")
    assert checked.stat(digest) == BlobStat(digest, 4, False)
    missing = {name for name in vars(BlobStore) if not name.startswith("_") and not hasattr(checked, name)}
    assert not missing
    assert checked.has(content_hash(b"other")) is False
