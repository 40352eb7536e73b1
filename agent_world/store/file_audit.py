"""Whether index, pins and blobs fit each other (F4), and removing what nothing reaches (F5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from agent_world.distfs.manifest import chunks_in
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError, StoreNotReadable
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import last_state
from agent_world.store.collector import Collector
from agent_world.store.file_index import FileIndex
from agent_world.store.home import Home
from agent_world.store.pins import PinTable
from agent_world.wire.cid import Cid, Codec, ContentHash

HASHES_MAX: Final = 10_000
"""Hashes that a list of a report has at most; ``omitted`` counts the rest."""


@attrs.define(slots=True, kw_only=True)
class FileIndexAuditReport:
    """Fields and their meaning: the reference system, F4."""

    total_indexed_files: int = 0
    total_pins: int = 0
    missing_file_blob_hashes: list[ContentHash] = attrs.Factory(list)
    """Parts of indexed files that are not here, ascending."""
    dangling_pin_hashes: list[ContentHash] = attrs.Factory(list)
    """Pinned and not here."""
    orphan_blob_hashes: list[ContentHash] = attrs.Factory(list)
    """Here, not the chain's, and reached by no root: neither file nor pin nor the world."""
    orphan_bytes: int = 0
    omitted: int = 0

    @property
    def is_clean(self) -> bool:
        """Nothing is missing, dangling or left over."""
        return not (self.missing_file_blob_hashes or self.dangling_pin_hashes or self.orphan_blob_hashes)


def audit_file_index(home: Home, blobs: LocalCasStore, *, reads: bool = False) -> FileIndexAuditReport:
    """The report in one call, for programs that open a store themselves; a running node audits in steps.

    Raises Refused (ERR_BUSY) while another process collects.
    """
    collector = Collector(home, blobs, lambda: last_state(home, blobs))
    with collector.alone():
        audit = Audit(FileIndex(home, blobs), PinTable(home), blobs, collector, reads=reads)
        for _ in audit.steps(blobs.wall_ms()):
            pass
    return audit.report


class Audit:
    """One audit in steps, so that a node can do other things between them."""

    def __init__(
        self, index: FileIndex, pins: PinTable, blobs: LocalCasStore, collector: Collector, *, reads: bool = False
    ) -> None:
        """``collector`` must be ``alone``. ``reads``: what is here is read too, and missing if it is damaged."""
        self._index = index
        self._pins = pins
        self._blobs = blobs
        self._collector = collector
        self._reads = reads
        self.report = FileIndexAuditReport()
        self.read_bytes = 0
        """So far."""

    def steps(self, now_ms: int) -> Iterator[None]:
        """Run to the end; then the report is whole."""
        report = self.report
        yield from self._collector.mark(now_ms)
        missing: set[ContentHash] = set()
        for file in self._index.list_files():
            report.total_indexed_files += 1
            for digest in self._missing(file.content):
                if digest is not None:
                    missing.add(digest)
                yield
            yield
        dangling: set[ContentHash] = set()
        for pin in self._pins.iterate():
            report.total_pins += 1
            if not self._is_here(pin.cid.digest):
                dangling.add(pin.cid.digest)
            yield
        for content_hash, size_bytes, _age in self._collector.unreachable():
            self._list(report.orphan_blob_hashes, content_hash)
            report.orphan_bytes += size_bytes
            yield
        for found, listed in ((missing, report.missing_file_blob_hashes), (dangling, report.dangling_pin_hashes)):
            for content_hash in sorted(found):
                self._list(listed, content_hash)

    def _list(self, listed: list[ContentHash], content_hash: ContentHash) -> None:
        if len(listed) < HASHES_MAX:
            listed.append(content_hash)
        else:
            self.report.omitted += 1

    def _is_here(self, content_hash: ContentHash) -> bool:
        if not self._reads or not self._blobs.has(content_hash):
            return self._blobs.has(content_hash)
        try:
            self.read_bytes += len(self._blobs.get(content_hash))
        except (BlobNotFound, BlobHashMismatch, StoreNotReadable):
            return False
        return True

    def _missing(self, cid: Cid) -> Iterator[ContentHash | None]:
        """Of a file: the manifest or node that cannot be read, or each chunk that is not here; None for one that is."""
        if cid.codec is Codec.RAW:
            yield None if self._is_here(cid.digest) else cid.digest
            return
        asked: list[Cid] = [cid]

        def get(link: Cid) -> bytes:
            asked.append(link)
            return self._blobs.get(link.digest)

        try:
            chunks = [span.cid.digest for span in chunks_in(cid, get, 0, 2**64)]
        except (BlobNotFound, BlobHashMismatch, DecodeError):
            yield asked[-1].digest
            return
        if self._reads:
            yield from (None if self._is_here(digest) else digest for digest in chunks)
        else:
            here = self._blobs.has_many(chunks)
            yield from (digest for digest in chunks if digest not in here)
