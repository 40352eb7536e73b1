"""What parts ask of a store, and that the store of a home has it."""

from __future__ import annotations

import hashlib

import pytest

from agent_world.crypto.hashing import content_hash
from agent_world.errors import BlobHashMismatch
from agent_world.store.blob_store import BlobStat, BlobStore
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector
from agent_world.store.home import Home
from agent_world.store.pins import Pin, PinTable
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import TimeMs


def test_the_store_of_a_home_satisfies_the_protocol(home: Home) -> None:
    checked: BlobStore = LocalCasStore(home)
    digest = checked.put(b"data")
    assert checked.stat(digest) == BlobStat(digest, 4, False)
    missing = {name for name in vars(BlobStore) if not name.startswith("_") and not hasattr(checked, name)}
    assert not missing
    assert checked.has(content_hash(b"other")) is False


def collect(home: Home, store: LocalCasStore) -> None:
    collector = Collector(home, store)
    now_ms = store.wall_ms()
    with collector.alone():
        for steps in (collector.mark(now_ms), collector.note(now_ms), collector.sweep(now_ms, 0)):
            for _ in steps:
                pass


@pytest.mark.parametrize("data", [b"small", b"large" * 20_000])
def test_t_2_1_what_is_put_is_here_while_it_is_pinned_and_changed_bytes_are_found(home: Home, data: bytes) -> None:
    """T-2.1: put, get, has and pin; another hash function names nothing here (D2)."""
    store, pins = LocalCasStore(home), PinTable(home)
    key, other = store.put(data), store.put(b"not pinned")
    sha256 = ContentHash(hashlib.sha256(data).digest())
    assert (store.has(key), store.get(key), store.has(sha256)) == (True, data, False)
    with pytest.raises(BlobHashMismatch):
        store.prepare({sha256: data})
    pins.put(Pin(name="kept", cid=Cid(Codec.RAW, key), made_ms=TimeMs(1)))
    collect(home, store)
    assert (store.has(key), store.has(other)) == (True, False)
    if store.stat(key).is_file:
        (home.files.blobs / key.hex()[:2] / key.hex()).write_bytes(data[:-1] + b"?")
    else:
        home.database.execute("UPDATE blobs SET data = ? WHERE content_hash = ?", (data[:-1] + b"?", key))
    with pytest.raises(BlobHashMismatch, match=key.hex()):
        store.get(key)
    assert store.get(store.put(data)) == data
    assert pins.remove("kept")
    collect(home, store)
    assert not store.has(key)
