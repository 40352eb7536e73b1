"""Content in parts of any size is known by the same CID as in one."""

from __future__ import annotations

import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.content_stream import ContentBuilder, cid_of_stream
from agent_world.distfs.manifest import ManifestBuilder, assemble
from agent_world.wire.cid import Codec
from agent_world.wire.limits import BLOB_BYTES_MAX

SIZES = [0, 1, BLOB_BYTES_MAX - 1, BLOB_BYTES_MAX, BLOB_BYTES_MAX + 1, 3 * BLOB_BYTES_MAX + 7]


def data_of(size: int) -> bytes:
    return bytes(number * 7 % 251 for number in range(1_000)) * (size // 1_000 + 1)


@pytest.mark.parametrize("part_bytes", [1_000, 65_536, 10 * BLOB_BYTES_MAX])
@pytest.mark.parametrize("size", SIZES)
def test_parts_make_no_difference_and_the_blobs_give_it_back(size: int, part_bytes: int) -> None:
    data = data_of(size)[:size]
    builder = ContentBuilder()
    blobs = [blob for start in range(0, size, part_bytes) for blob in builder.add(data[start : start + part_bytes])]
    blobs += builder.finish()
    last, _ = blobs[-1]
    assert (last.codec is Codec.RAW) == (size <= BLOB_BYTES_MAX)
    assert builder.size_bytes == size
    stored = dict(blobs)
    whole = stored[last] if last.codec is Codec.RAW else b"".join(assemble(last, stored.__getitem__))
    assert whole == data
    assert cid_of_stream([data]) == last


def test_it_is_the_raw_blob_or_the_manifest() -> None:
    assert cid_of_stream([b"a", b"", b"b"]) == cid_of(b"ab", Codec.RAW)
    assert cid_of_stream([]) == cid_of(b"", Codec.RAW)
    data = data_of(SIZES[-1])
    builder = ManifestBuilder()
    *_, (manifest, _blob) = [*builder.add(data), *builder.finish()]
    assert cid_of_stream([data]) == manifest
