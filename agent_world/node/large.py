"""Content of any size (D2): imported from a stream, fetched from several peers, read by range; never whole in memory.

What has arrived is stored chunk by chunk, so a transfer that was cut off goes on with what is missing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import attrs
import trio

from agent_world.distfs.content_stream import ContentBuilder
from agent_world.distfs.manifest import (
    Span,
    check_chunk,
    children,
    cut,
    manifest_in,
    open_manifest,
    open_node,
    root_span,
)
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError, ErrorCode, Refused
from agent_world.node.storing import Aside, OnStored, in_thread, storing, uncounted
from agent_world.node.transfer import BlobTransfer
from agent_world.store.blob_hold import BlobHold
from agent_world.store.blob_store import BlobStore
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import CHUNK_BYTES, MIB

READ_AHEAD_BYTES: Final = 16 * MIB
"""Fetched at a time while reading: what a reader that stops early has fetched in vain."""


@attrs.frozen(slots=True)
class Stored:
    """Content that was imported."""

    cid: Cid
    """Raw for content of one blob, otherwise of the manifest."""
    size_bytes: int


@attrs.frozen(slots=True)
class Pulled:
    """What a pull has found out; complete if nothing is missing."""

    size_bytes: int
    missing: int
    """Chunks and nodes that nobody gave. Below a missing node more may be."""


class LargeContent:
    """Content of one node's store and of its peers."""

    def __init__(self, blobs: BlobStore, transfer: BlobTransfer) -> None:
        self._blobs = blobs
        self._transfer = transfer
        self.aside: Aside = in_thread
        """How files are written; a simulation sets another."""

    async def store(self, parts: AsyncIterator[bytes]) -> Stored:
        """Import a stream; up to BLOB_BYTES_MAX it becomes one raw blob, above it a file manifest.

        Raises StoreFull. Nothing of it is collected before the end; what is to stay longer needs a root by then.
        """
        with self._blobs.hold() as hold:
            return await self._store(parts, hold)

    async def _store(self, parts: AsyncIterator[bytes], hold: BlobHold) -> Stored:
        builder = ContentBuilder()
        async with storing(self._blobs, self.aside) as batches:
            async for part in parts:
                hold.renew()
                for cid, blob in builder.add(part):
                    await batches.take({cid.digest: blob})
            last: Cid | None = None
            for last, blob in builder.finish():
                await batches.take({last.digest: blob})
        assert last is not None, "a builder ends with what it is known by"
        return Stored(last, builder.size_bytes)

    async def pull(self, cid: Cid, peers: Sequence[PeerId], stored: OnStored = uncounted) -> Pulled:
        """Store everything below a manifest that is not here yet; ``stored`` is told of every batch.

        Raises Refused (ERR_NOT_AVAILABLE) without the manifest itself, and DecodeError (L5, L6) if it is none or one
        of its parts is not what it says.
        """
        manifest = open_manifest(cid, await self._blob(cid, peers))
        missing = 0
        spans = [(root_span(cid, manifest), manifest)]
        while spans:
            span, node = spans.pop()
            below = children(span, node, 0, manifest.size_bytes)
            lacking = await self._fetch(below, peers, stored)
            missing += len(lacking)
            if span.depth > 1:
                spans += [
                    (child, open_node(child, self._blobs.get(child.cid.digest)))
                    for child in reversed(below)
                    if child.cid.digest not in lacking
                ]
            else:
                self._check_sizes(child for child in below if child.cid.digest not in lacking)
        return Pulled(manifest.size_bytes, missing)

    async def here(self, cid: Cid) -> int:
        """Bytes of a file's chunks that are stored here; 0 without its manifest. Raises DecodeError (L5, L6)."""
        if not self._blobs.has(cid.digest):
            return 0
        manifest = open_manifest(cid, self._blobs.get(cid.digest))
        spans = [(root_span(cid, manifest), manifest)]
        here_bytes = 0
        while spans:
            span, node = spans.pop()
            below = children(span, node, 0, manifest.size_bytes)
            stored = self._blobs.has_many([child.cid.digest for child in below])
            found = [child for child in below if child.cid.digest in stored]
            if span.depth > 1:
                spans += [(child, open_node(child, self._blobs.get(child.cid.digest))) for child in found]
            else:
                here_bytes += sum(child.size_bytes for child in found)
            await trio.lowlevel.checkpoint()
        return here_bytes

    async def size(self, cid: Cid, peers: Sequence[PeerId]) -> int:
        """Bytes of the content; raises Refused (ERR_NOT_AVAILABLE) if nobody has it."""
        data = await self._blob(cid, peers)
        manifest = manifest_in(cid, data)
        return len(data) if manifest is None else manifest.size_bytes

    async def read(self, cid: Cid, start: int, end: int, peers: Sequence[PeerId]) -> AsyncIterator[bytes]:
        """The bytes ``start`` to ``end`` (exclusive, cut at the content's end), a chunk at a time, verified.

        What is not here is fetched and kept. Raises Refused (ERR_NOT_AVAILABLE) and DecodeError as ``pull``.
        """
        data = await self._blob(cid, peers)
        manifest = manifest_in(cid, data)
        if manifest is None:
            yield data[start:end]
            return
        stack = [(root_span(cid, manifest), manifest)]
        while stack:
            span, node = stack.pop()
            below = children(span, node, start, end)
            if span.depth > 1:
                await self._need(below, peers)
                stack += [(child, open_node(child, self._blobs.get(child.cid.digest))) for child in reversed(below)]
                continue
            ahead = READ_AHEAD_BYTES // CHUNK_BYTES
            for first in range(0, len(below), ahead):
                group = below[first : first + ahead]
                await self._need(group, peers)
                for child in group:
                    yield cut(child, check_chunk(child, await self._blob(child.cid, peers)), start, end)

    async def _blob(self, cid: Cid, peers: Sequence[PeerId]) -> bytes:
        try:
            return self._blobs.get(cid.digest)
        except (BlobNotFound, BlobHashMismatch):
            pass  # never here, or damaged and now in quarantine: either way a peer may have it
        if await self._bring([cid.digest], peers):
            raise _not_available(cid, 1)
        return self._blobs.get(cid.digest)

    async def _need(self, spans: Sequence[Span], peers: Sequence[PeerId]) -> None:
        lacking = await self._fetch(spans, peers)
        if lacking:
            raise _not_available(spans[0].cid, len(lacking))

    async def _fetch(
        self, spans: Sequence[Span], peers: Sequence[PeerId], stored: OnStored = uncounted
    ) -> frozenset[ContentHash]:
        """Bring what is not here; returns what nobody gave."""
        wanted = [span.cid.digest for span in spans]
        here = self._blobs.has_many(wanted)
        return frozenset(await self._bring([digest for digest in wanted if digest not in here], peers, stored))

    async def _bring(
        self, wanted: Sequence[ContentHash], peers: Sequence[PeerId], stored: OnStored = uncounted
    ) -> tuple[ContentHash, ...]:
        if not wanted:
            return ()
        async with storing(self._blobs, self.aside, stored) as batches:
            return await self._transfer.fetch(wanted, peers, batches.take)

    def _check_sizes(self, spans: Iterable[Span]) -> None:
        for span in spans:
            size = self._blobs.stat(span.cid.digest).size_bytes
            if size != span.size_bytes:
                raise DecodeError("L6", f"a chunk of {size} bytes where {span.size_bytes} belong")


def _not_available(cid: Cid, count: int) -> Refused:
    return Refused(ErrorCode.NOT_AVAILABLE, f"{count} parts are not here and no peer gave them, such as {cid}")
