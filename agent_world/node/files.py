"""The file index of a running node, for its control API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import attrs
import trio

from agent_world.node.answers import Tell, untold
from agent_world.node.collecting import Collecting
from agent_world.node.large import LargeContent
from agent_world.node.pinning import Pinning
from agent_world.node.tree_fetch import TreeFetcher
from agent_world.store.blobs import LocalCasStore
from agent_world.store.file_index import Expected, FileIndex
from agent_world.store.file_manifest import export_manifest, import_manifest
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.file_index import FileIndexManifestRef, FileMetadata
from agent_world.wire.jsonable import jsonable

EXPORT_PIN: Final = "file-index"
"""Keeps the last export, if no other name is given."""


class NodeFiles:
    """Files by their paths."""

    def __init__(
        self, index: FileIndex, blobs: LocalCasStore, large: LargeContent, trees: TreeFetcher, pinning: Pinning,
        collecting: Collecting,
    ) -> None:  # fmt: skip
        self.index = index
        self._blobs = blobs
        self._large = large
        self._trees = trees
        self._pinning = pinning
        self._collecting = collecting
        self.reader: Callable[[Cid, int, int], AsyncIterator[bytes]] = self._read_here
        """Reads content, wherever it is."""
        self.lost: Callable[[ContentHash], None] = lambda _digest: None
        """Told of parts of files that are not here, or damaged."""

    async def write(self, path: str, expected: Expected, parts: AsyncIterator[bytes]) -> FileMetadata:
        """Put a file of any size there; raises FileConflict before anything is stored if it already does not match."""
        self.index.check(path, expected)
        with self._blobs.hold():
            stored = await self._large.store(parts)
            return self.index.put_content(path, expected, stored.cid, stored.size_bytes)

    def read(self, path: str, start: int, end: int) -> tuple[FileMetadata, AsyncIterator[bytes]]:
        """What is there, and the bytes ``start`` to ``end``; what is not here is fetched while they are read."""
        file = self.index.need(path)
        return file, self.reader(file.content, start, end)

    def _read_here(self, content: Cid, start: int, end: int) -> AsyncIterator[bytes]:
        return self._large.read(content, start, end, ())

    def copy(self, source: str, path: str, expected: Expected) -> FileMetadata:
        """Put what is at ``source`` also there."""
        return self.index.copy(source, path, expected)

    async def audit(self, *, reads: bool = False, tell: Tell = untold) -> dict[str, Any]:
        """Whether index, pins and blobs fit each other, for JSON; with ``reads`` also whether the bytes are right.

        What is missing or damaged of a file is fetched again from peers, soon.
        """
        report = await self._collecting.audit(self.index, reads=reads, tell=tell)
        for digest in report.missing_file_blob_hashes:
            self.lost(digest)
        found: dict[str, Any] = jsonable(attrs.asdict(report))
        return {**found, "is_clean": report.is_clean}

    def export(self, pin: str | None) -> FileIndexManifestRef:
        """Store the index as content, pinned in place of the last export of that name."""
        with self._blobs.hold():
            ref = export_manifest(self.index, self._blobs)
            name = EXPORT_PIN if pin is None else pin
            self._pinning.set(name, Cid(Codec.DAG_CBOR, ref.content_hash))
        return ref

    async def take_in(self, ref: FileIndexManifestRef, timeout_s: float) -> dict[str, Any]:
        """Fetch an index with its content, and once all of it is here let the own index be that.

        With the time over and something fetched it is not ``done``, and goes on when it is called again. Raises as
        ``TreeFetcher.bring`` and ``import_manifest``.
        """
        with self._blobs.hold():
            brought = await self._trees.bring(Cid(Codec.DAG_CBOR, ref.content_hash), timeout_s)
            if not brought.is_whole:
                return {"done": False, "fetched": brought.fetched}
            await trio.lowlevel.checkpoint()
            files = import_manifest(ref, self.index, self._blobs)
        return {"done": True, "fetched": brought.fetched, "files": files}
