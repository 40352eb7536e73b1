"""Content of unknown length into blobs: one raw blob if it fits, else chunks and a file manifest (D2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.manifest import ManifestBuilder
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.limits import BLOB_BYTES_MAX

NamedBlob = tuple[Cid, bytes]


class ContentBuilder:
    """Fed with parts of any size; holds at most BLOB_BYTES_MAX bytes and a part of them.

    Take every blob that ``add`` and then ``finish`` give; the very last one is what the content is known by.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._chunks: ManifestBuilder | None = None
        self.size_bytes = 0
        """Of what was added so far."""

    def add(self, part: bytes) -> Iterator[NamedBlob]:
        """The blobs that have become whole."""
        self.size_bytes += len(part)
        if self._chunks is None:
            self._head += part
            if len(self._head) <= BLOB_BYTES_MAX:
                return
            self._chunks, part = ManifestBuilder(), bytes(self._head)
            self._head.clear()
        yield from self._chunks.add(part)

    def finish(self) -> Iterator[NamedBlob]:
        """What is left; the last one is the content's own CID with its blob."""
        if self._chunks is None:
            data = bytes(self._head)
            yield cid_of(data, Codec.RAW), data
        else:
            yield from self._chunks.finish()


def cid_of_stream(parts: Iterable[bytes]) -> Cid:
    """What content is known by once it is stored; nothing is kept."""
    builder = ContentBuilder()
    for part in parts:
        for _blob in builder.add(part):
            continue
    *_, (cid, _data) = builder.finish()
    return cid
