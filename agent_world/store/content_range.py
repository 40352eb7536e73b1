"""Ranges of stored content: of a file only the chunks that the range touches are read, each verified (D2, D9).

BLAKE3 of a blob says nothing about a part of it, and nothing but the hash is stored. So a blob, of at most 1 MiB, is
read whole however little of it is asked for, and so is a chunk of a file, of 256 KiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from agent_world.distfs.manifest import check_chunk, chunks_below, cut, manifest_in
from agent_world.errors import RangeOutside
from agent_world.wire.blob import FileManifest
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.limits import MIB

RANGE_BYTES_MAX: Final = 16 * MIB
"""Given in one piece of memory; as much as the largest answer to a request."""

Get = Callable[[ContentHash], bytes]
"""Verified bytes of a blob; what it raises is raised here."""


def read_range(get: Get, content: Cid, start: int, end: int) -> bytes:
    """The bytes ``start`` to ``end`` (exclusive): of a file if ``content`` is a file's manifest, else of that blob.

    Raises RangeOutside unless 0 <= start <= end <= the content's size, and for more than RANGE_BYTES_MAX; DecodeError
    (L5, L6) for a manifest whose parts are not what it says; and what ``get`` raises, for this blob or a chunk.
    """
    top = get(content.digest)
    manifest = manifest_in(content, top)
    size = len(top) if manifest is None else manifest.size_bytes
    if not 0 <= start <= end <= size:
        raise RangeOutside(start, end, size, "the content has no such range")
    if end - start > RANGE_BYTES_MAX:
        raise RangeOutside(start, end, size, f"at most {RANGE_BYTES_MAX} bytes are given at a time")
    return top[start:end] if manifest is None else b"".join(_cut(get, content, manifest, start, end))


def content_parts(get: Get, content: Cid, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """As ``read_range``, a blob or chunk at a time, of any length, and cut where the content ends."""
    top = get(content.digest)
    manifest = manifest_in(content, top)
    if manifest is None:
        yield top[start:end]
    else:
        yield from _cut(get, content, manifest, start, manifest.size_bytes if end is None else end)


def _cut(get: Get, content: Cid, manifest: FileManifest, start: int, end: int) -> Iterator[bytes]:
    for chunk in chunks_below(content, manifest, lambda cid: get(cid.digest), (start, end)):
        yield cut(chunk, check_chunk(chunk, get(chunk.cid.digest)), start, end)
