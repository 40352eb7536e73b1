"""Files that survive a crash: written whole under a temporary name, fsynced, then renamed into place."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent_world.store.bulk_sync import start_writing

FaultHook = Callable[[str], None]
"""Called with the name of each persistence step just done; tests crash or copy the home there."""

TEMPORARY_PREFIX: Final = ".tmp-"
"""Names that start so are unfinished writes; nobody reads them."""
EARLY_BYTES: Final = 65_536
"""From this size on the disk begins at once with a file that is synced later, with others."""
RESET_PREFIX: Final = f"{TEMPORARY_PREFIX}reset-"
"""Folders of a home that hold what a reset takes out of it."""


def no_fault(_step: str) -> None:
    """The hook of production: nothing."""


SET_ASIDE_MAX: Final = 8
"""Files of one name that are kept for inspection; above it the oldest goes."""


def set_aside(path: Path) -> None:
    """Move a file that is damaged or in doubt out of the way, as ``<name>.aside-<number>``; raises OSError.

    Nothing if there is no such file.
    """
    if not path.exists():
        return
    kept = sorted(path.parent.glob(f"{path.name}.aside-*"), key=_number)
    for old in kept[: max(0, len(kept) - SET_ASIDE_MAX + 1)]:
        old.unlink()
    path.replace(path.with_name(f"{path.name}.aside-{_number(kept[-1]) + 1 if kept else 1}"))
    fsync_directory(path.parent)


def _number(path: Path) -> int:
    digits = path.name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def fsync_directory(path: Path) -> None:
    """Make renames and creations inside ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_temporary(directory: Path, data: bytes, *, sync: bool = True) -> Path:
    """Write and fsync a unique file (mode 0600) in ``directory``; the caller renames it. Raises OSError.

    With ``sync`` false the caller makes it durable, before the rename.
    """
    name = os.path.join(directory, f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
            elif len(data) >= EARLY_BYTES:
                start_writing(file.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def write_new_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Create ``path`` whole and durable; raises FileExistsError rather than replace what is there."""
    temporary = write_temporary(path.parent, data)
    try:
        temporary.chmod(mode)
        os.link(temporary, path)  # link, not rename: it fails if the name is taken, without a race
    finally:
        temporary.unlink()
    fsync_directory(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Put a new content in place of ``path`` at once: after a crash it is the old or the new one, never a mix."""
    temporary = write_temporary(path.parent, data)
    temporary.replace(path)
    fsync_directory(path.parent)
