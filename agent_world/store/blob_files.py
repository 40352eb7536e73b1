"""The blobs that are files, and the quarantine. Knows names and durability, not which blobs exist."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from agent_world.errors import DecodeError
from agent_world.store.bulk_sync import BulkSync
from agent_world.store.disk_faults import DiskFaults, Doing
from agent_world.store.durable import TEMPORARY_PREFIX, FaultHook, write_temporary
from agent_world.wire.cid import ContentHash, parse_content_hash
from agent_world.wire.limits import BLOB_BYTES_MAX

Wait = Callable[[], None] | None
"""Waits for the disk; raises StoreNotWritable."""
FILES_AT_ONCE: Final = 4
"""Written without a pause for other work; making a file and filling it takes a quarter of a millisecond."""
PROBE_BYTES: Final = 4_096
"""Written to find out whether the disk takes writes again: a block of it."""
QUARANTINE_FILES_MAX: Final = 256
"""Corrupt blobs kept for inspection, at most 256 MiB; above it the oldest goes."""
_PREFIX_DIGITS: Final = 2
_PLACE: Final = "blobs"


class BlobFiles:
    """Files ``<blobs>/ab/<64 hex digits>``. Raises StoreNotWritable or StoreNotReadable for what the disk refuses."""

    def __init__(
        self, blobs: Path, quarantine: Path, fault: FaultHook, faults: DiskFaults, *, bulk_sync: bool = True
    ) -> None:
        self._blobs = blobs
        self._quarantine = quarantine
        self._fault = fault
        self._faults = faults
        self._bulk_sync = bulk_sync

    def path(self, content_hash: ContentHash) -> Path:
        """Where this blob's file is, if it is one."""
        return Path(self._name(content_hash))

    def _name(self, content_hash: ContentHash) -> str:
        """The same as text: a Path costs more than to open the file."""
        name = content_hash.hex()
        return f"{self._blobs}/{name[:_PREFIX_DIGITS]}/{name}"

    def write(self, blobs: Mapping[ContentHash, bytes]) -> Generator[Wait, None, None]:
        """Write all durably: all files are synced before any gets its name, and then the directories (D9).

        Each function that it yields is to be called before it goes on, and does nothing but wait for the disk, so any
        thread may call it. Where it yields None the caller may do something else first. Left early, it cleans up.
        """
        if not blobs:
            return
        written: dict[str, Path] = {}
        try:
            with self._storing(), BulkSync(self._blobs_made(), whole=self._bulk_sync) as bulk:
                for number, (content_hash, data) in enumerate(blobs.items(), 1):
                    name = self._name(content_hash)
                    written[name] = _write_beside(name, data)
                    if number % FILES_AT_ONCE == 0:
                        yield None
                yield self._waiting(bulk, written.values())
                self._fault("blob_files_written")
                changed = self._rename(written)
                written.clear()
                self._fault("blob_files_renamed")
                yield self._waiting(bulk, changed)
        finally:
            for temporary in written.values():
                with suppress(OSError):  # the next start removes it; what went wrong before is what is told
                    temporary.unlink(missing_ok=True)
        self._faults.worked(_PLACE, Doing.WRITE)
        self._fault("blob_files_durable")

    def _blobs_made(self) -> Path:
        self._blobs.mkdir(exist_ok=True)
        return self._blobs

    def _waiting(self, bulk: BulkSync, paths: Iterable[Path]) -> Wait:
        def wait() -> None:
            with self._storing():
                bulk.sync(paths)

        return wait

    def _storing(self) -> AbstractContextManager[None]:
        return self._faults.writing(_PLACE, f"{self._blobs}: cannot store a blob")

    def read(self, content_hash: ContentHash) -> bytes | None:
        """The file's bytes as they are (not verified), at most one byte above the limit; None if there is no file."""
        try:
            with self._reading(content_hash):
                data = _read_file(self._name(content_hash))
        except FileNotFoundError:
            return None
        self._faults.worked(_PLACE, Doing.READ)
        return data

    def _reading(self, content_hash: ContentHash) -> AbstractContextManager[None]:
        return self._faults.reading(_PLACE, f"{self._name(content_hash)} cannot be read")

    def has(self, content_hash: ContentHash) -> bool:
        """Whether there is a file of that name."""
        with self._reading(content_hash):
            return self.path(content_hash).exists()

    def delete(self, content_hash: ContentHash) -> None:
        """Remove the file; nothing if there is none."""
        with self._faults.writing(_PLACE, f"{self.path(content_hash)} cannot be removed"):
            self.path(content_hash).unlink(missing_ok=True)

    def quarantine(self, content_hash: ContentHash, data: bytes | None) -> int:
        """Put corrupt bytes aside: ``data``, or with None the file itself. Returns how many old ones had to go."""
        with self._faults.writing(_PLACE, f"{self._quarantine}: cannot put a corrupt blob aside"):
            self._quarantine.mkdir(exist_ok=True)
            target = self._free_name(content_hash)
            if data is None:
                self.path(content_hash).replace(target)
            else:
                write_temporary(self._quarantine, data).replace(target)
            return self._trim_quarantine()

    def remove_unfinished(self) -> int:
        """Remove what a crash left half written; returns how many."""
        with self._faults.writing(_PLACE, f"{self._blobs}: cannot remove what is half written"):
            if not self._blobs.is_dir():
                return 0
            directories = [self._blobs, *(path for path in self._blobs.iterdir() if len(path.name) == _PREFIX_DIGITS)]
            unfinished = [path for directory in directories for path in directory.glob(f"{TEMPORARY_PREFIX}*")]
            for path in unfinished:
                path.unlink(missing_ok=True)
            return len(unfinished)

    def try_writing(self) -> None:
        """Write a file and remove it again; raises StoreNotWritable."""
        with self._storing():
            write_temporary(self._blobs_made(), b"\0" * PROBE_BYTES).unlink()
        self._faults.worked(_PLACE, Doing.WRITE)

    def iterate(self, *, older_than_s: float = 0.0) -> Iterator[ContentHash]:
        """Every blob file of at least that age, ascending; other files are passed over."""
        newest = time.time() - older_than_s
        for directory in self._listed(self._blobs):
            for path in self._listed(directory):
                try:
                    content_hash = parse_content_hash(path.name)
                    with self._reading(content_hash):
                        is_old = not older_than_s or path.stat().st_mtime < newest
                except DecodeError:
                    continue  # not ours: somebody else's file is left alone
                except FileNotFoundError:
                    continue  # removed meanwhile
                if is_old:
                    yield content_hash

    def _listed(self, directory: Path) -> list[Path]:
        """In order; nothing for what is no directory."""
        with self._faults.reading(_PLACE, f"{directory} cannot be listed"):
            return sorted(directory.iterdir()) if directory.is_dir() else []

    def _rename(self, written: Mapping[str, Path]) -> list[Path]:
        """Give the temporary files their names; returns the directories to be fsynced, children first."""
        for name, temporary in written.items():
            os.replace(temporary, name)
        return [*map(Path, dict.fromkeys(os.path.dirname(name) for name in written)), self._blobs]

    def _free_name(self, content_hash: ContentHash) -> Path:
        """One blob can be corrupted more than once; every finding is kept under its own number."""
        for number in itertools.count():
            path = self._quarantine / f"{content_hash.hex()}.{number}"
            if not path.exists():
                return path
        raise AssertionError("count() does not end")

    def _trim_quarantine(self) -> int:
        kept = sorted(self._quarantine.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        excess = kept[: max(0, len(kept) - QUARANTINE_FILES_MAX)]
        for path in excess:
            path.unlink(missing_ok=True)
        return len(excess)


def _write_beside(name: str, data: bytes) -> Path:
    """A temporary file in the directory of ``name``, not yet synced.

    Not in one directory for all: ext4 looks for a free inode near the directory, and where many were freed in the last
    seconds that takes half a millisecond a file.
    """
    directory = Path(os.path.dirname(name))
    try:
        return write_temporary(directory, data, sync=False)
    except FileNotFoundError:
        directory.mkdir(exist_ok=True)
        return write_temporary(directory, data, sync=False)


def _read_file(path: str) -> bytes:
    """Unbuffered and by its size, at most one byte above the limit; raises OSError.

    A buffer of the largest blob for every chunk costs ten times the reading, and a file object with its path as much as
    the reading.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        left = min(os.fstat(file).st_size, BLOB_BYTES_MAX + 1)
        data = os.read(file, left)
        while len(data) < left and (more := os.read(file, left - len(data))):
            data += more
    finally:
        os.close(file)
    return data
