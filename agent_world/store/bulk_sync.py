"""Makes many changes of one directory durable with few waits for the disk.

An fsync waits for a commit of the file system's journal, and for its turn on a busy machine: 32 chunks in 32
directories wait 65 times. Linux commits all that waits on a file system with one call (syncfs), and has told its write
errors since 5.8. Elsewhere, and for a few paths, every file and directory is fsynced by itself.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

PATHS_EACH_MAX: Final = 4
"""Up to so many paths are fsynced one by one: a lone blob need not wait for what other programs write."""
_TELLS_ERRORS: Final = (5, 8)
"""First Linux whose syncfs returns write errors."""
_UNABLE: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""A file system, or a sandbox, without the call."""


class BulkSync:
    """Open it before anything is changed below ``directory``: what fails from then on is told.

    With ``whole`` false the file system is never synced as a whole.
    """

    def __init__(self, directory: Path, *, whole: bool = True) -> None:
        self._directory = directory
        self._call = _syncfs if whole else None
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def sync(self, paths: Iterable[Path]) -> None:
        """These files and directories are durable when it returns; raises OSError."""
        wanted = list(paths)
        if len(wanted) > PATHS_EACH_MAX and self._sync_whole():
            return
        for path in wanted:
            fsync_path(path)

    def _sync_whole(self) -> bool:
        if self._call is None:
            return False
        if self._call(self._descriptor) == 0:
            return True
        number = ctypes.get_errno()
        if number in _UNABLE:
            self._call = None
            return False
        raise OSError(number, os.strerror(number), str(self._directory))


def fsync_path(path: Path) -> None:
    """Make a file's content, or the names in a directory, durable; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def start_writing(descriptor: int) -> None:
    """Let the disk begin with what was written to this file, rather than when it is synced.

    Waits for nothing, and makes nothing durable. What goes wrong is told by the sync. Does nothing on a system without
    the call.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, _WHOLE_FILE, _WHOLE_FILE, _WRITE)


def _find_syncfs() -> Any:
    """The C library's function, or None where it is missing or does not tell errors."""
    return None if _kernel() < _TELLS_ERRORS else _find("syncfs")


def _find(name: str) -> Any:
    """A function of Linux's C library, or None elsewhere."""
    return getattr(ctypes.CDLL(None, use_errno=True), name, None) if sys.platform.startswith("linux") else None


def _kernel() -> tuple[int, ...]:
    """First two numbers of the release; () for one that has none."""
    first = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(number) for number in first if number.isdecimal())


_syncfs: Final = _find_syncfs()
_sync_file_range: Final = _find("sync_file_range")
_WHOLE_FILE: Final = ctypes.c_int64(0)
"""As its offset, and as its length: to the end."""
_WRITE: Final = 2
"""SYNC_FILE_RANGE_WRITE: start, and do not wait."""
