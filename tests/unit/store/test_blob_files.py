from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_world.crypto.hashing import content_hash
from agent_world.errors import HomeError
from agent_world.store import blob_files, bulk_sync, durable
from agent_world.store.blob_files import BlobFiles
from agent_world.store.disk_faults import DiskFaults
from agent_world.store.durable import EARLY_BYTES, TEMPORARY_PREFIX, no_fault
from agent_world.wire.cid import ContentHash
from agent_world.wire.limits import BLOB_BYTES_MAX

ONE, TWO = b"one" * 100, b"two" * 100


def files_in(tmp_path: Path) -> BlobFiles:
    return BlobFiles(tmp_path / "blobs", tmp_path / "quarantine", no_fault, DiskFaults())


def write(files: BlobFiles, blobs: dict[ContentHash, bytes]) -> None:
    for wait in files.write(blobs):
        if wait is not None:
            wait()


def test_a_file_lies_under_the_first_two_digits_of_its_hash(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write(files, {content_hash(ONE): ONE})
    name = content_hash(ONE).hex()
    assert (tmp_path / "blobs" / name[:2] / name).read_bytes() == ONE
    assert files.read(content_hash(ONE)) == ONE
    assert files.read(content_hash(TWO)) is None
    assert list(files.iterate()) == [content_hash(ONE)]


def test_every_file_is_synced_before_it_is_named_and_each_directory_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path)))
        real_fsync(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    blobs = {content_hash(data): data for data in (bytes([number]) * 50 for number in range(5))}
    write(BlobFiles(tmp_path / "blobs", tmp_path / "quarantine", no_fault, DiskFaults(), bulk_sync=False), blobs)
    temporary = [path for path in synced if "/.tmp-" in path]
    directories = sorted(path for path in synced if "/.tmp-" not in path)
    assert len(temporary) == 5
    assert synced[:5] == temporary
    assert directories == sorted({"/blobs", *(f"/blobs/{key.hex()[:2]}" for key in blobs)})


def test_a_batch_waits_for_the_disk_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for what is in the files, before they have names, and once for the names."""
    synced: list[tuple[int, int]] = []

    def syncfs(_descriptor: int) -> int:
        names = [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
        unnamed = sum(name.startswith(TEMPORARY_PREFIX) for name in names)
        synced.append((unnamed, len(names) - unnamed))
        return 0

    def fsync(_descriptor: int) -> None:
        raise AssertionError("a wait for one file")

    monkeypatch.setattr(bulk_sync, "_syncfs", syncfs)
    monkeypatch.setattr("os.fsync", fsync)
    write(files_in(tmp_path), {content_hash(data): data for data in (bytes([number]) * 50 for number in range(40))})
    assert synced == [(40, 0), (0, 40)]


def test_the_disk_begins_with_large_files_while_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, int]] = []

    def start_writing(descriptor: int) -> None:
        begun.append((os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_size))

    monkeypatch.setattr(durable, "start_writing", start_writing)
    large = bytes(EARLY_BYTES)
    write(files_in(tmp_path), {content_hash(data): data for data in (ONE, large)})
    [(name, size)] = begun
    assert Path(name).parent == tmp_path / "blobs" / content_hash(large).hex()[:2]
    assert size == EARLY_BYTES


def test_unfinished_and_foreign_files_are_not_blobs(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write(files, {content_hash(ONE): ONE})
    (tmp_path / "blobs" / ".tmp-abc").write_bytes(b"half")
    (tmp_path / "blobs" / "ab").mkdir(exist_ok=True)
    (tmp_path / "blobs" / "ab" / ".tmp-def").write_bytes(b"half")
    (tmp_path / "blobs" / content_hash(ONE).hex()[:2] / "README").write_bytes(b"mine")
    assert list(files.iterate()) == [content_hash(ONE)]
    assert files.remove_unfinished() == 2
    assert files.remove_unfinished() == 0
    assert list(files.iterate()) == [content_hash(ONE)]


def test_a_disk_that_refuses_is_a_home_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    files = files_in(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(HomeError, match="No space left"):
            write(files, {content_hash(ONE): ONE, content_hash(TWO): TWO})
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


def test_quarantine_keeps_every_finding_up_to_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_files, "QUARANTINE_FILES_MAX", 3)
    files = files_in(tmp_path)
    dropped = [files.quarantine(content_hash(ONE), b"bad %d" % number) for number in range(5)]
    assert dropped == [0, 0, 0, 1, 1]
    kept = sorted(path.read_bytes() for path in (tmp_path / "quarantine").iterdir())
    assert kept == [b"bad 2", b"bad 3", b"bad 4"]


def test_quarantine_moves_a_file(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write(files, {content_hash(ONE): ONE})
    files.quarantine(content_hash(ONE), None)
    assert files.read(content_hash(ONE)) is None
    assert (tmp_path / "quarantine" / f"{content_hash(ONE).hex()}.0").read_bytes() == ONE
    files.delete(content_hash(ONE))


def test_a_file_above_the_limit_is_not_read_whole(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write(files, {content_hash(ONE): ONE})
    files.path(content_hash(ONE)).write_bytes(bytes(BLOB_BYTES_MAX + 1000))
    found = files.read(content_hash(ONE))
    assert found is not None
    assert len(found) == BLOB_BYTES_MAX + 1


def test_a_write_that_is_left_early_leaves_nothing(tmp_path: Path) -> None:
    writing = files_in(tmp_path).write({content_hash(ONE): ONE, content_hash(TWO): TWO})
    assert next(writing) is not None
    assert len(list((tmp_path / "blobs").glob("??/*"))) == 2
    writing.close()  # type: ignore[attr-defined]
    assert list((tmp_path / "blobs").glob("??/*")) == []
