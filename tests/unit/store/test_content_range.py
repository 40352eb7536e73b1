"""Ranges of stored content: what slicing gives, reading no more than what they touch, and nothing unverified."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of, content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.distfs.content_stream import ContentBuilder
from agent_world.distfs.manifest import open_manifest
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError, ErrorCode, RangeOutside
from agent_world.store.blobs import LocalCasStore
from agent_world.store.content_range import RANGE_BYTES_MAX, content_parts
from agent_world.store.home import Home
from agent_world.wire import record
from agent_world.wire.blob import FileManifest
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import U64
from agent_world.wire.limits import BLOB_BYTES_MAX, CHUNK_BYTES

SIZES = (0, 1, 700, CHUNK_BYTES, BLOB_BYTES_MAX, BLOB_BYTES_MAX + 1, 6 * CHUNK_BYTES, 6 * CHUNK_BYTES + 100)
CHUNKS = 7
DATA = Random(1).randbytes(6 * CHUNK_BYTES + 100)
IN_THE_THIRD = (2 * CHUNK_BYTES + 5, 2 * CHUNK_BYTES + 25)


def put(store: LocalCasStore, data: bytes) -> Cid:
    builder = ContentBuilder()
    blobs = [*builder.add(data), *builder.finish()]
    store.put_many(blob for _, blob in blobs)
    return blobs[-1][0]


def range_of(store: LocalCasStore, cid: Cid, start: int, end: int) -> bytes:
    return store.get_range(cid.digest, start, end, codec=cid.codec)


@pytest.fixture
def store(home: Home) -> LocalCasStore:
    return LocalCasStore(home)


@pytest.fixture
def file(store: LocalCasStore) -> Cid:
    return put(store, DATA)


def chunks_of(store: LocalCasStore, file: Cid) -> list[ContentHash]:
    return [link.digest for link in open_manifest(file, store.get(file.digest)).links]


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalCasStore, dict[Cid, bytes]]]:
    """A store with content of every size around the limits, for many examples."""
    path, genesis = tmp_path_factory.mktemp("ranges") / "home", hash32(b"genesis")
    Home.create(
        path, genesis_hash=genesis, genesis_toml="", node_toml="", node_key=KeyPair(bytes(32)), validator_key=None
    )
    with Home.open(path, genesis) as home:
        store = LocalCasStore(home)
        data = [Random(size).randbytes(size) for size in SIZES]
        yield store, {put(store, content): content for content in data}


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_range_is_what_slicing_gives(contents: tuple[LocalCasStore, dict[Cid, bytes]], draw: st.DataObject) -> None:
    store, stored = contents
    cid = draw.draw(st.sampled_from(sorted(stored)))
    data = stored[cid]
    near = st.sampled_from((0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(data)))
    places = st.one_of(near.filter(lambda place: place <= len(data)), st.integers(0, len(data)))
    start, end = sorted((draw.draw(places), draw.draw(places)))
    assert range_of(store, cid, start, end) == data[start:end]
    assert b"".join(content_parts(store.get, cid, start, end)) == data[start:end]
    assert b"".join(content_parts(store.get, cid, start)) == data[start:]
    assert b"".join(content_parts(store.get, cid, start, end + len(data))) == data[start : end + len(data)]


@pytest.mark.parametrize("size", [0, 5, BLOB_BYTES_MAX + 5])
def test_a_range_outside_is_refused_and_says_how_much_there_is(store: LocalCasStore, size: int) -> None:
    cid = put(store, bytes(size))
    assert range_of(store, cid, size, size) == b""
    for start, end in ((0, size + 1), (size + 1, size + 1), (-1, size), (1, 0), (-2, -1)):
        with pytest.raises(RangeOutside, match=f"of {size}: the content has no such range") as caught:
            range_of(store, cid, start, end)
        assert (caught.value.size_bytes, caught.value.wire_code) == (size, ErrorCode.BAD_REQUEST)


def test_more_than_fits_into_memory_is_refused(store: LocalCasStore) -> None:
    """A few blobs are the manifest of a file of any size: 4,096 links to one chunk are a gibibyte."""
    chunk = Cid(Codec.RAW, store.put(bytes(CHUNK_BYTES)))
    manifest = FileManifest(size_bytes=U64(4096 * CHUNK_BYTES), links=(chunk,) * 4096)
    key = store.put(record.to_bytes(manifest))
    assert store.get_range(key, 2**29, 2**29 + RANGE_BYTES_MAX) == bytes(RANGE_BYTES_MAX)
    with pytest.raises(RangeOutside, match=f"at most {RANGE_BYTES_MAX} bytes"):
        store.get_range(key, 0, RANGE_BYTES_MAX + 1)


def test_a_manifest_is_read_as_its_file_and_with_the_codec_raw_as_a_blob(store: LocalCasStore, file: Cid) -> None:
    manifest = store.get(file.digest)
    assert store.get_range(file.digest, 0, 20) == DATA[:20]
    assert store.get_range(file.digest, 0, len(manifest), codec=Codec.RAW) == manifest
    record_like = store.put(manifest[:12])  # begins as a manifest, and is none
    assert store.get_range(record_like, 3, 12) == manifest[3:12]


def test_a_file_is_read_where_the_range_touches_it_and_nowhere_else(store: LocalCasStore, file: Cid) -> None:
    chunks = chunks_of(store, file)
    assert len(chunks) == CHUNKS
    store.delete_many([*chunks[:2], *chunks[3:]])
    start, end = 2 * CHUNK_BYTES, 3 * CHUNK_BYTES
    assert range_of(store, file, start, end) == DATA[start:end]
    for outside in ((start - 1, end), (start, end + 1)):
        with pytest.raises(BlobNotFound):
            range_of(store, file, *outside)
    with pytest.raises(BlobNotFound, match=chunks[6].hex()):
        range_of(store, file, len(DATA) - 1, len(DATA))


def path_of(home: Home, key: ContentHash) -> Path:
    return home.files.blobs / key.hex()[:2] / key.hex()


@pytest.mark.parametrize("place", [0, 10, CHUNK_BYTES - 1])
def test_a_flipped_bit_anywhere_in_a_touched_chunk_is_found_put_aside_and_healed(
    home: Home, store: LocalCasStore, file: Cid, place: int
) -> None:
    """Before the range, within it and behind it: the chunk is verified as a whole."""
    key = chunks_of(store, file)[2]
    good = store.get(key)
    damaged = bytearray(good)
    damaged[place] ^= 1
    path_of(home, key).write_bytes(damaged)
    assert range_of(store, file, 0, 2 * CHUNK_BYTES) == DATA[: 2 * CHUNK_BYTES]
    with pytest.raises(BlobHashMismatch, match=f"{key.hex()}.*quarantine"):
        range_of(store, file, *IN_THE_THIRD)
    assert [path.read_bytes() for path in home.files.quarantine.iterdir()] == [damaged]
    with pytest.raises(BlobNotFound, match=key.hex()):
        range_of(store, file, *IN_THE_THIRD)
    store.put(good)
    assert range_of(store, file, *IN_THE_THIRD) == DATA[slice(*IN_THE_THIRD)]


@pytest.mark.parametrize("left", [0, 4, CHUNK_BYTES - 1])
def test_a_truncated_chunk_is_found_also_where_the_range_lies_before_its_end(
    home: Home, store: LocalCasStore, file: Cid, left: int
) -> None:
    key = chunks_of(store, file)[2]
    path_of(home, key).write_bytes(DATA[2 * CHUNK_BYTES :][:left])
    with pytest.raises(BlobHashMismatch, match="quarantine"):
        range_of(store, file, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 3)


@pytest.mark.parametrize("data", [DATA[:700], DATA[:300_000]])
def test_a_blob_is_verified_whole(home: Home, store: LocalCasStore, data: bytes) -> None:
    key = store.put(data)
    damaged = data[:-1] + bytes([data[-1] ^ 1])
    if store.stat(key).is_file:
        path_of(home, key).write_bytes(damaged)
    else:
        home.database.execute("UPDATE blobs SET data = ? WHERE content_hash = ?", (damaged, key))
    with pytest.raises(BlobHashMismatch, match="quarantine"):
        store.get_range(key, 0, 1)
    assert store.get_range(store.put(data), 0, 1) == data[:1]


def test_what_is_not_here(store: LocalCasStore, file: Cid) -> None:
    with pytest.raises(BlobNotFound):
        store.get_range(content_hash(b"nowhere"), 0, 0)
    store.delete(file.digest)
    with pytest.raises(BlobNotFound, match=file.digest.hex()):
        range_of(store, file, 0, 1)


def test_a_manifest_that_states_another_size_than_its_chunk_has_is_refused(store: LocalCasStore) -> None:
    chunk = cid_of(b"short", Codec.RAW)
    store.put(b"short")
    key = store.put(record.to_bytes(FileManifest(size_bytes=U64(6), links=(chunk,))))
    with pytest.raises(DecodeError, match="L6"):
        store.get_range(key, 0, 2)
