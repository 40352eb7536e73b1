"""A file, or standard input, in parts, with a bar that shows how far it is."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_world.cli.progress import bytes_progress, counted
from agent_world.errors import UsageError
from agent_world.wire.limits import MIB


@contextmanager
def file_parts(file: Path, *, quiet: bool) -> Iterator[Iterator[bytes]]:
    """The bytes of ``file``, ``-`` for standard input; raises UsageError if it cannot be read, also in the middle."""
    is_stdin = str(file) == "-"
    try:
        found = None if is_stdin else file.stat()
        source = sys.stdin.buffer if is_stdin else file.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error}") from None
    # A pipe or a device ends when it ends.
    total = found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None

    def parts() -> Iterator[bytes]:
        try:
            while part := source.read(MIB):
                yield part
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error}") from None

    with source, bytes_progress(f"storing {file.name}", total, quiet=quiet) as bar:
        yield counted(parts(), bar)
