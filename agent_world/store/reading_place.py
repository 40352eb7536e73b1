"""How a reader opens an SQLite file in WAL mode without adding anything beside it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import attrs

from agent_world.errors import HomeError

READ_ONLY: Final = "mode=ro"
"""Reads the write-ahead log too; SQLite needs its index in ``-shm`` for that, and makes one where there is none."""
IMMUTABLE: Final = "mode=ro&immutable=1"
"""Reads the file as it is, without locks and without a log: only for a file that nobody writes."""


@attrs.frozen(slots=True)
class Place:
    """A file to connect to and the URI parameters to do it with."""

    path: Path
    mode: str
    _copy: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Remove the copy, if this is one; may be called twice."""
        if self._copy is not None:
            self._copy.cleanup()


def has_wal(path: Path) -> bool:
    """Whether a write-ahead log with anything in it lies beside the file."""
    try:
        return _beside(path, "-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def reading_place(path: Path, *, at_rest: bool) -> Place:
    """Where to read; ``at_rest``: no process has the file open, nor will while it is read.

    Where a log must be read, no index is there and none may be made, both files are copied to the system's temporary
    directory. Raises HomeError if there is no room.
    """
    is_writable = os.access(path.parent, os.W_OK, effective_ids=True)
    if not has_wal(path):
        return Place(path, IMMUTABLE if at_rest or not is_writable else READ_ONLY)
    if is_writable or _beside(path, "-shm").exists():
        return Place(path, READ_ONLY)
    return _copied(path)


def _copied(path: Path) -> Place:
    folder = tempfile.TemporaryDirectory(prefix="agent-world-")
    target = Path(folder.name) / path.name
    try:
        shutil.copyfile(path, target)
        shutil.copyfile(_beside(path, "-wal"), _beside(target, "-wal"))
    except OSError as error:
        folder.cleanup()
        raise HomeError(
            f"{path} was left by a crash on a disk that cannot be written, and cannot be copied to {folder.name}:"
            f" {error.strerror}; name a roomier directory in TMPDIR"
        ) from None
    return Place(target, READ_ONLY, folder)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
