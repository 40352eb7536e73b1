"""Content above one blob: a tree of raw chunks of one size (D2). Build it from a stream, read any range, trust nothing.

The total size alone decides the shape: n = ceil(size / chunk) chunks, every node but the last of its level full, and
no level more than needed. So equal bytes give one manifest, and a wrong node shows before anything below is fetched.
Rules L5 (shape) and L6 (sizes) of protocols/blob.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import attrs

from agent_world.crypto.hashing import cid_of, verify_blob
from agent_world.errors import BlobHashMismatch, DecodeError
from agent_world.wire import record
from agent_world.wire.blob import FileManifest
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import U64
from agent_world.wire.limits import BLOB_BYTES_MAX, CHUNK_BYTES, MANIFEST_LINKS_MAX, U64_MAX


@attrs.frozen(slots=True)
class Layout:
    """Sizes of a tree; every world uses STANDARD, tests use small ones."""

    chunk_bytes: int = CHUNK_BYTES
    links_max: int = MANIFEST_LINKS_MAX

    def depth(self, size_bytes: int) -> int:
        """Levels of nodes above the chunks of a file: 1 up to ``links_max`` chunks."""
        depth, covered = 1, self.chunk_bytes * self.links_max
        while covered < size_bytes:
            depth, covered = depth + 1, covered * self.links_max
        return depth

    def child_bytes(self, depth: int) -> int:
        """What a full child of a node at ``depth`` covers; the lowest nodes are at depth 1."""
        return self.chunk_bytes * int(self.links_max ** (depth - 1))


STANDARD: Final = Layout()
_START: Final = b"\xa3\x61v\x01\x65links"
"""Every manifest begins so, as its encoding is canonical; what does not need not be decoded to be told apart."""


@attrs.frozen(slots=True)
class Span:
    """A child of a node: which bytes of the file it covers."""

    cid: Cid
    offset: int
    size_bytes: int
    depth: int
    """0 for a chunk, else that of the node."""

    @property
    def end(self) -> int:
        """Offset after its last byte."""
        return self.offset + self.size_bytes


class ManifestBuilder:
    """Takes a file's bytes in parts of any size and gives blobs to store; holds one chunk and a node a level."""

    def __init__(self, layout: Layout = STANDARD) -> None:
        self._layout = layout
        self._levels: list[list[Cid]] = [[]]
        self._rest = bytearray()
        self.size_bytes = 0
        """Bytes taken so far."""

    def add(self, data: bytes) -> Iterator[tuple[Cid, bytes]]:
        """The blobs that are complete with ``data``; run the iterator to its end before the next call."""
        before = self.size_bytes
        self.size_bytes += len(data)
        chunk_bytes = self._layout.chunk_bytes
        taken = 0
        if self._rest:
            taken = chunk_bytes - len(self._rest)
            self._rest += data[:taken]
            if len(self._rest) < chunk_bytes:
                return
            chunk = bytes(self._rest)
            self._rest.clear()
            yield from self._chunk(chunk, before + taken)
        with memoryview(data) as view:  # whole chunks are copied once, not by way of the rest
            while len(view) - taken >= chunk_bytes:
                chunk = bytes(view[taken : taken + chunk_bytes])
                taken += chunk_bytes
                yield from self._chunk(chunk, before + taken)
            self._rest += view[taken:]

    def finish(self) -> Iterator[tuple[Cid, bytes]]:
        """The last blobs; the very last of them is the manifest. Call once, after everything was added."""
        if self._rest:
            yield from self._chunk(bytes(self._rest), self.size_bytes)
        level = 0
        while level + 1 < len(self._levels):
            yield from self._close(level, self.size_bytes)
            level += 1
        yield self._node(level, self.size_bytes)

    def _chunk(self, chunk: bytes, end: int) -> Iterator[tuple[Cid, bytes]]:
        cid = cid_of(chunk, Codec.RAW)
        yield cid, chunk
        yield from self._put(0, cid, end - len(chunk))

    def _put(self, level: int, cid: Cid, covered: int) -> Iterator[tuple[Cid, bytes]]:
        """Add a link; a full node goes one level up only when there is more, so no level is too many."""
        if len(self._levels[level]) == self._layout.links_max:
            yield from self._close(level, covered)
        self._levels[level].append(cid)

    def _close(self, level: int, end: int) -> Iterator[tuple[Cid, bytes]]:
        cid, data = self._node(level, end)
        yield cid, data
        self._levels[level] = []
        if level + 1 == len(self._levels):
            self._levels.append([])
        yield from self._put(level + 1, cid, end - self._covered_by_last(level, end))

    def _covered_by_last(self, level: int, end: int) -> int:
        span = self._layout.child_bytes(level + 2)
        return end % span or span

    def _node(self, level: int, end: int) -> tuple[Cid, bytes]:
        links = self._levels[level]
        span = self._layout.child_bytes(level + 1)
        below = end - (end - 1) // span * span if end else 0
        size = (len(links) - 1) * span + below if links else 0
        data = record.to_bytes(FileManifest(size_bytes=U64(size), links=tuple(links)))
        return cid_of(data), data


def open_manifest(cid: Cid, data: bytes, *, layout: Layout = STANDARD) -> FileManifest:
    """The topmost node; raises DecodeError (codec rules, L4, L5)."""
    return _checked(cid, data, layout.depth, layout)


def open_node(span: Span, data: bytes, *, layout: Layout = STANDARD) -> FileManifest:
    """A node below another; raises DecodeError (codec rules, L4, L5, L6)."""
    manifest = _checked(span.cid, data, lambda _size: span.depth, layout)
    # [REJECT] L6: what a link leads to has the size that its place demands.
    if manifest.size_bytes != span.size_bytes:
        raise DecodeError("L6", f"a node of {manifest.size_bytes} bytes where {span.size_bytes} belong")
    return manifest


def check_chunk(span: Span, data: bytes) -> bytes:
    """``data`` if it is that chunk; raises DecodeError (L4, L6)."""
    _check_hash(span.cid, data)
    if len(data) != span.size_bytes:
        raise DecodeError("L6", f"a chunk of {len(data)} bytes where {span.size_bytes} belong")
    return data


def may_be_manifest(cid: Cid, data: bytes) -> bool:
    """False for what is none at first sight, before anything is decoded."""
    return cid.codec is Codec.DAG_CBOR and data.startswith(_START)


def manifest_size(cid: Cid, data: bytes) -> int | None:
    """The file's size if ``data`` is a file manifest, None for any other content. ``data`` hashes to ``cid``."""
    manifest = manifest_in(cid, data)
    return None if manifest is None else manifest.size_bytes


def manifest_in(cid: Cid, data: bytes, *, layout: Layout = STANDARD) -> FileManifest | None:
    """The topmost node if ``data``, which hashes to ``cid``, is a file manifest; None for any other content."""
    if not may_be_manifest(cid, data):
        return None
    try:
        return open_manifest(cid, data, layout=layout)
    except DecodeError:
        return None


def root_span(cid: Cid, manifest: FileManifest, *, layout: Layout = STANDARD) -> Span:
    """The topmost node as a span over the whole file."""
    return Span(cid, 0, manifest.size_bytes, layout.depth(manifest.size_bytes))


def children(span: Span, manifest: FileManifest, start: int, end: int, *, layout: Layout = STANDARD) -> list[Span]:
    """The children of a checked node that cover any of the bytes ``start`` to ``end`` (exclusive), in order."""
    width = layout.child_bytes(span.depth)
    first = max(0, start - span.offset) // width
    last = min(len(manifest.links), -(-(min(end, span.end) - span.offset) // width))
    if start >= min(end, span.end):
        return []
    return [
        Span(
            manifest.links[number],
            span.offset + number * width,
            min(width, span.size_bytes - number * width),
            span.depth - 1,
        )
        for number in range(first, last)
    ]


def chunks_in(
    cid: Cid, get: Callable[[Cid], bytes], start: int, end: int, *, layout: Layout = STANDARD
) -> Iterator[Span]:
    """The chunks that cover ``start`` to ``end``; raises DecodeError, and whatever ``get`` raises for a node."""
    return chunks_below(cid, open_manifest(cid, get(cid), layout=layout), get, (start, end), layout=layout)


def chunks_below(
    cid: Cid,
    manifest: FileManifest,
    get: Callable[[Cid], bytes],
    between: tuple[int, int],
    *,
    layout: Layout = STANDARD,
) -> Iterator[Span]:
    """``chunks_in``, of a file whose topmost node is open already."""
    start, end = between
    stack = children(root_span(cid, manifest, layout=layout), manifest, start, end, layout=layout)[::-1]
    while stack:
        span = stack.pop()
        if span.depth == 0:
            yield span
            continue
        node = open_node(span, get(span.cid), layout=layout)
        stack += reversed(children(span, node, start, end, layout=layout))


def assemble(
    cid: Cid, get: Callable[[Cid], bytes], start: int = 0, end: int | None = None, *, layout: Layout = STANDARD
) -> Iterator[bytes]:
    """The bytes ``start`` to ``end`` of a file, a chunk at a time, all checked; an end past the file's is its end."""
    stop = U64_MAX if end is None else end
    for span in chunks_in(cid, get, start, stop, layout=layout):
        yield cut(span, check_chunk(span, get(span.cid)), start, stop)


def cut(span: Span, chunk: bytes, start: int, end: int) -> bytes:
    """What of a chunk lies within ``start`` to ``end``."""
    if start <= span.offset and span.end <= end:
        return chunk
    return chunk[max(0, start - span.offset) : end - span.offset]


def _checked(cid: Cid, data: bytes, depth_of: Callable[[int], int], layout: Layout) -> FileManifest:
    _check_hash(cid, data)
    manifest = record.from_bytes(FileManifest, data, size_max=BLOB_BYTES_MAX)
    depth = depth_of(manifest.size_bytes)
    # [REJECT] L5: a node has the links that its size demands: raw ones to chunks, dag-cbor ones to nodes.
    if len(manifest.links) != -(-manifest.size_bytes // layout.child_bytes(depth)):
        raise DecodeError("L5", f"{len(manifest.links)} links for {manifest.size_bytes} bytes")
    codec = Codec.RAW if depth == 1 else Codec.DAG_CBOR
    if any(link.codec is not codec for link in manifest.links):
        raise DecodeError("L5", f"a node at depth {depth} links to codec {codec.name} only")
    return manifest


def _check_hash(cid: Cid, data: bytes) -> None:
    try:
        verify_blob(data, cid.digest)
    except BlobHashMismatch as error:
        raise DecodeError("L4", str(error)) from None
