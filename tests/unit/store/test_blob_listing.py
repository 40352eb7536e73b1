from __future__ import annotations

import pytest

from agent_world.config import StorageConfig
from agent_world.errors import UsageError
from agent_world.store.blob_listing import BlobListing
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home

LIMIT = StorageConfig().inline_bytes_max


def test_pages_hold_every_blob_once_in_order(home: Home) -> None:
    stored = LocalCasStore(home).put_many([b"%d" % number for number in range(50)])
    listing = BlobListing(home)
    found = list(listing.page(None, 7))
    while page := listing.page(found[-1].content_hash, 7):
        found += page
    assert [blob.content_hash for blob in found] == sorted(stored)


def test_size_and_place_are_told(home: Home) -> None:
    hashes = LocalCasStore(home).put_many([bytes(LIMIT), bytes(LIMIT + 1)])
    rows = {blob.content_hash: (blob.size_bytes, blob.is_file) for blob in BlobListing(home).page(None, 9)}
    assert [rows[item] for item in hashes] == [(LIMIT, False), (LIMIT + 1, True)]


@pytest.mark.parametrize("digits", [0, 1, 2, 3, 63, 64])
def test_a_prefix_of_any_length(home: Home, digits: int) -> None:
    stored = LocalCasStore(home).put_many([b"%d" % number for number in range(300)])
    prefix = stored[0].hex()[:digits]
    found = [blob.content_hash for blob in BlobListing(home).page(None, 1_000, prefix=prefix)]
    assert found == sorted(item for item in stored if item.hex().startswith(prefix))
    assert BlobListing(home).page(found[-1], 1_000, prefix=prefix) == ()


@pytest.mark.parametrize("prefix", ["g", "AB", "a" * 65, "a b", "%"])
def test_what_is_no_prefix(home: Home, prefix: str) -> None:
    with pytest.raises(UsageError, match="hex digits"):
        BlobListing(home).page(None, 1, prefix=prefix)
