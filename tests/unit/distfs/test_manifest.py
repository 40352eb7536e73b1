"""distfs/manifest.py: what is built from any stream reads back, by range too, and nothing wrong is taken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.manifest import (
    STANDARD,
    Layout,
    ManifestBuilder,
    Span,
    assemble,
    check_chunk,
    children,
    chunks_in,
    cut,
    manifest_size,
    open_manifest,
    open_node,
    root_span,
)
from agent_world.errors import DecodeError
from agent_world.wire import cbor, record
from agent_world.wire.blob import FileManifest
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import U64
from agent_world.wire.limits import BLOB_BYTES_MAX, CHUNK_BYTES, MANIFEST_LINKS_MAX

SMALL = Layout(chunk_bytes=4, links_max=3)
Store = dict[Cid, bytes]


def build(data: bytes, layout: Layout = SMALL, step: int = 5) -> tuple[Cid, Store]:
    builder, store = ManifestBuilder(layout), {}
    last = None
    for start in range(0, len(data), step):
        store.update(builder.add(data[start : start + step]))
    for last, blob in builder.finish():
        store[last] = blob
    assert last is not None
    assert builder.size_bytes == len(data)
    return last, store


def text(size: int) -> bytes:
    return bytes(number % 251 for number in range(size))


def rule(action: object) -> str:
    with pytest.raises(DecodeError) as caught:
        action()  # type: ignore[operator]
    return caught.value.rule


@pytest.mark.parametrize("size", range(4 * 3 * 3 * 3 + 6))
def test_identity_for_all_sizes_around_the_limits(size: int) -> None:
    root, store = build(text(size))
    assert b"".join(assemble(root, store.__getitem__, layout=SMALL)) == text(size)
    assert open_manifest(root, store[root], layout=SMALL).size_bytes == size
    nodes = sum(cid.codec is Codec.DAG_CBOR for cid in store)
    expected, level = 0, -(-size // 4)
    while True:
        level = max(1, -(-level // 3))
        expected += level
        if level == 1:
            break
    assert nodes <= expected, "no more nodes than the tree needs; equal ones are stored once"


@settings(deadline=None, max_examples=150)
@given(
    data=st.binary(max_size=200),
    cuts=st.lists(st.integers(1, 60), max_size=8),
    layout=st.builds(Layout, st.integers(1, 9), st.integers(2, 5)),
    start=st.integers(0, 210),
    length=st.integers(0, 210),
)
def test_any_stream_gives_one_tree_and_any_range_reads_back(
    data: bytes, cuts: list[int], layout: Layout, start: int, length: int
) -> None:
    builder, store, at = ManifestBuilder(layout), {}, 0
    for size in [*cuts, len(data)]:
        store.update(builder.add(data[at : at + size]))
        at += size
    last = [cid for cid, blob in builder.finish() if store.__setitem__(cid, blob) is None][-1]
    assert last == build(data, layout, step=3)[0]
    end = start + length
    assert b"".join(assemble(last, store.__getitem__, start, end, layout=layout)) == data[start:end]
    spans = list(chunks_in(last, store.__getitem__, start, end, layout=layout))
    assert all(span.offset < end and span.end > start for span in spans), "only chunks that the range touches"
    assert all(span.size_bytes == len(store[span.cid]) for span in spans)


def test_the_standard_layout_needs_few_levels() -> None:
    assert (STANDARD.chunk_bytes, STANDARD.links_max) == (CHUNK_BYTES, MANIFEST_LINKS_MAX)
    full = CHUNK_BYTES * MANIFEST_LINKS_MAX
    assert [STANDARD.depth(size) for size in (0, 1, full, full + 1, full * MANIFEST_LINKS_MAX)] == [1, 1, 1, 2, 2]
    assert STANDARD.depth(2**64 - 1) == 4
    links = tuple(Cid(Codec.RAW, cid_of(b"x").digest) for _ in range(MANIFEST_LINKS_MAX))
    data = record.to_bytes(FileManifest(size_bytes=U64(full), links=links))
    assert len(data) < BLOB_BYTES_MAX
    assert open_manifest(cid_of(data), data).size_bytes == full


def test_a_large_file_goes_through_a_bounded_builder() -> None:
    builder = ManifestBuilder()
    part = bytes(CHUNK_BYTES)
    largest = 0
    for _ in range(64):
        list(builder.add(part + b"1"))
        largest = max(largest, len(builder._rest))
    assert largest < CHUNK_BYTES


def forged(size: int, links: tuple[Cid, ...]) -> tuple[Cid, bytes]:
    data = record.to_bytes(FileManifest(size_bytes=U64(size), links=links))
    return cid_of(data), data


RAW = Cid(Codec.RAW, cid_of(b"abcd").digest)
NODE = Cid(Codec.DAG_CBOR, cid_of(b"abcd").digest)


@pytest.mark.parametrize(
    ("size", "links"),
    [
        (4, ()),
        (4, (RAW, RAW)),
        (5, (RAW,)),
        (0, (RAW,)),
        (4, (NODE,)),
        (13, (RAW, RAW)),
        (13, (NODE, RAW)),
        (12, (NODE,)),
        (2**64 - 1, (RAW,)),
    ],
)
def test_l5_a_shape_that_the_size_does_not_demand(size: int, links: tuple[Cid, ...]) -> None:
    assert rule(lambda: open_manifest(*forged(size, links), layout=SMALL)) == "L5"


def test_l4_other_bytes() -> None:
    root, store = build(text(20))
    assert rule(lambda: open_manifest(root, store[root] + b"\0", layout=SMALL)) == "L4"
    span = next(chunks_in(root, store.__getitem__, 0, 1, layout=SMALL))
    assert rule(lambda: check_chunk(span, b"abcd")) == "L4"


def test_l6_a_node_or_a_chunk_of_another_size() -> None:
    root, store = build(text(20))
    manifest = open_manifest(root, store[root], layout=SMALL)
    first, second = children(root_span(root, manifest, layout=SMALL), manifest, 0, 20, layout=SMALL)
    assert (first.size_bytes, second.size_bytes) == (12, 8)
    wrong = Span(second.cid, 0, 12, 1)
    assert rule(lambda: open_node(wrong, store[second.cid], layout=SMALL)) == "L6"
    assert rule(lambda: check_chunk(Span(RAW, 0, 3, 0), b"abcd")) == "L6"
    swapped, data = forged(20, (second.cid, first.cid))
    store[swapped] = data
    assert rule(lambda: list(assemble(swapped, store.__getitem__, layout=SMALL))) == "L6"


@pytest.mark.parametrize(
    "value", [{"v": 1}, {"v": 2, "size_bytes": 0, "links": []}, {"v": 1, "size_bytes": 0, "links": [1]}]
)
def test_what_is_no_manifest_is_refused(value: dict[str, object]) -> None:
    data = cbor.encode(dict(sorted(value.items(), key=lambda item: (len(item[0]), item[0]))))
    assert rule(lambda: open_manifest(cid_of(data), data)).startswith("D")
    assert manifest_size(cid_of(data), data) is None


def test_the_size_of_content() -> None:
    cid, data = forged(0, ())
    assert manifest_size(cid, data) == 0
    assert manifest_size(Cid(Codec.RAW, cid.digest), data) is None, "a raw blob is never parsed"


def test_a_range_is_cut_out_of_its_chunks() -> None:
    span = Span(RAW, 4, 4, 0)
    assert [cut(span, b"abcd", *ends) for ends in ((0, 9), (4, 8), (5, 8), (0, 6), (5, 6))] == [
        b"abcd", b"abcd", b"bcd", b"ab", b"b",
    ]  # fmt: skip
    assert children(Span(NODE, 0, 4, 1), FileManifest(size_bytes=U64(4), links=(RAW,)), 7, 7, layout=SMALL) == []
