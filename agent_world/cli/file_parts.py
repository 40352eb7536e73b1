"""A file, or standard input, in parts, with a bar that shows how far it is."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from agent_world.cli.progress import bytes_progress, counted
from agent_world.errors import UsageError
from agent_world.wire.limits import MIB


@contextmanager
def file_parts(file: Path, *, quiet: bool) -> Iterator[Iterator[bytes]]:
    """The bytes of ``file``, ``-`` for standard input; raises UsageError if it cannot be read, also in the middle."""
    with opened(file) as source, parts_of(source, file, quiet=quiet) as parts:
        yield parts


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """``file``, ``-`` for standard input; raises UsageError if it cannot be opened."""
    try:
        source = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error}") from None
    with source:
        yield source


@contextmanager
def parts_of(source: BinaryIO, file: Path, *, quiet: bool, head: bytes = b"") -> Iterator[Iterator[bytes]]:
    """The bytes of an opened file, after those of ``head``, which were read before; raises as ``file_parts``."""

    def parts() -> Iterator[bytes]:
        if head:
            yield head
        while part := read_part(source, file, MIB):
            yield part

    with bytes_progress(f"storing {file.name}", regular_size(source), quiet=quiet) as bar:
        yield counted(parts(), bar)


def read_part(source: BinaryIO, file: Path, size: int) -> bytes:
    """At most ``size`` bytes; raises UsageError naming the file."""
    try:
        return source.read(size)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error}") from None


def regular_size(source: BinaryIO) -> int | None:
    """Bytes of a file; None for a pipe or a device, which ends when it ends."""
    try:
        found = os.fstat(source.fileno())
    except OSError:
        return None  # no file of the system at all
    return found.st_size if stat.S_ISREG(found.st_mode) else None
