from __future__ import annotations

from contextlib import closing
from pathlib import Path

from agent_world.crypto.hashing import content_hash
from agent_world.store.blob_files import BlobFiles
from agent_world.store.disk_faults import DiskFaults
from agent_world.store.durable import no_fault
from agent_world.store.staged_blobs import StagedBlobs
from agent_world.wire.cid import ContentHash

SMALL, LARGE = b"small", bytes(64)


def staged(tmp_path: Path, *blobs: bytes, present: tuple[ContentHash, ...] = ()) -> StagedBlobs:
    files = BlobFiles(tmp_path / "blobs", tmp_path / "quarantine", no_fault, DiskFaults())
    return StagedBlobs({content_hash(data): data for data in blobs}, present, files, inline_bytes_max=16)


def finish(blobs: StagedBlobs) -> None:
    with closing(blobs.write()) as waits:
        for wait in waits:
            if wait is not None:
                wait()


def test_small_blobs_go_into_rows_and_large_ones_into_files(tmp_path: Path) -> None:
    here = content_hash(b"here")
    blobs = staged(tmp_path, SMALL, LARGE, present=(here,))
    assert blobs.prepared.rows == ()
    finish(blobs)
    assert blobs.prepared.rows == ((content_hash(SMALL), 5, SMALL), (content_hash(LARGE), 64, None))
    assert blobs.prepared.present == (here,)
    name = content_hash(LARGE).hex()
    assert (tmp_path / "blobs" / name[:2] / name).read_bytes() == LARGE
