"""T-2.9: live, missing, dangling and orphan content is told apart; T-2.10: orphans alone are removed."""

from __future__ import annotations

import pytest

from agent_world.crypto.hashing import content_hash
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector
from agent_world.store.file_audit import FileIndexAuditReport, audit_file_index
from agent_world.store.file_index import FileIndex
from agent_world.store.home import Home
from agent_world.store.pins import Pin, PinTable
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import TimeMs
from agent_world.wire.limits import BLOB_BYTES_MAX, CHUNK_BYTES


class Rig:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.blobs = LocalCasStore(home)
        self.index = FileIndex(home, self.blobs)
        self.pins = PinTable(home)

    def audit(self, *, reads: bool = False) -> FileIndexAuditReport:
        return audit_file_index(self.home, self.blobs, reads=reads)

    def lose(self, data: bytes) -> None:
        assert self.home.database.execute("DELETE FROM blobs WHERE content_hash = ?", (content_hash(data),)) == 1

    def pin(self, data: bytes) -> None:
        cid = Cid(Codec.RAW, self.blobs.put(data))
        self.pins.put(Pin(name=data.hex(), cid=cid, made_ms=TimeMs(0)))


@pytest.fixture
def rig(home: Home) -> Rig:
    return Rig(home)


def test_a_store_without_faults_is_clean(rig: Rig) -> None:
    rig.index.write_file("a", b"live")
    rig.index.write_file("large", b"2" * (BLOB_BYTES_MAX + 7))
    rig.pin(b"pinned")
    rig.blobs.put(b"chain", kept=True)
    report = rig.audit()
    assert report.is_clean
    assert (report.total_indexed_files, report.total_pins, report.omitted) == (2, 1, 0)


def test_t_2_9_the_kinds_of_faults_are_told_apart(rig: Rig) -> None:
    rig.index.write_file("a", b"live")
    rig.index.write_file("b", b"missing")
    rig.index.write_file("large", b"2" * (BLOB_BYTES_MAX + 7))
    rig.pin(b"pinned")
    rig.pin(b"dangling")
    rig.blobs.put_many([b"orphan", b"orphan 2"])
    for data in (b"missing", b"dangling", b"2" * 7):
        rig.lose(data)
    report = rig.audit()
    assert not report.is_clean
    assert (report.total_indexed_files, report.total_pins) == (3, 2)
    assert report.missing_file_blob_hashes == sorted([content_hash(b"missing"), content_hash(b"2" * 7)])
    assert report.dangling_pin_hashes == [content_hash(b"dangling")]
    assert report.orphan_blob_hashes == sorted([content_hash(b"orphan"), content_hash(b"orphan 2")])
    assert report.orphan_bytes == 14


def test_an_audit_that_reads_finds_a_flipped_octet(rig: Rig) -> None:
    small, large = b"small", b"2" * (BLOB_BYTES_MAX + 7)
    for path, data in (("small", small), ("large", large)):
        rig.index.write_file(path, data)
    rig.pin(b"pinned")
    chunk = next(path for path in rig.home.files.blobs.glob("??/*"))
    octets = bytearray(chunk.read_bytes())
    octets[9] ^= 1
    chunk.write_bytes(octets)
    for data in (small, b"pinned"):
        rig.home.database.execute("UPDATE blobs SET data = x'00' WHERE content_hash = ?", (content_hash(data),))
    assert rig.audit().is_clean
    report = rig.audit(reads=True)
    assert report.missing_file_blob_hashes == sorted([content_hash(small), ContentHash(bytes.fromhex(chunk.name))])
    assert report.dangling_pin_hashes == [content_hash(b"pinned")]
    rig.blobs.put_many([small, b"pinned", large[:CHUNK_BYTES]])
    assert rig.audit(reads=True).is_clean


def test_a_file_without_its_manifest_names_the_manifest(rig: Rig) -> None:
    file = rig.index.write_file("large", b"2" * (BLOB_BYTES_MAX + 7))
    rig.home.database.execute("DELETE FROM blobs WHERE content_hash = ?", (file.content_hash,))
    report = rig.audit()
    assert report.missing_file_blob_hashes == [file.content_hash]
    assert len(report.orphan_blob_hashes) == 2  # its chunks: 256 KiB of the same, and the rest


def test_t_2_10_what_the_audit_calls_orphans_is_what_a_collection_frees(rig: Rig) -> None:
    rig.index.write_file("a", b"live")
    rig.pin(b"pinned")
    rig.blobs.put_many([b"orphan", bytes(50_000)])
    report = rig.audit()
    collector = Collector(rig.home, rig.blobs)
    freed = 0
    with collector.alone():
        for steps in (collector.mark(1_000), collector.note(1_000)):
            for _ in steps:
                pass
        freed = sum(step.size_bytes for step in collector.sweep(1_000, 0))
    assert freed == report.orphan_bytes == 50_006
    assert rig.audit().is_clean
    assert rig.index.read_file("a") == b"live"
