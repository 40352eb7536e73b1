"""A file, or standard input, in parts, with a bar that shows how far it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from agent_world.errors import UsageError
from agent_world.wire.limits import MIB


@contextmanager
def transfer_bar(what: str, total: int | None, *, quiet: bool) -> Iterator[Progress]:
    """A bar of bytes on standard error, if that is a terminal; its one task has the id 0."""
    console = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        bar.add_task(what, total=total)
        yield bar


@contextmanager
def file_parts(file: Path, *, quiet: bool) -> Iterator[Iterator[bytes]]:
    """The bytes of ``file``, ``-`` for standard input; raises UsageError if it cannot be read, also in the middle."""
    try:
        total = None if str(file) == "-" else file.stat().st_size
        source = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error}") from None

    def parts() -> Iterator[bytes]:
        try:
            while part := source.read(MIB):
                yield part
                bar.advance(bar.task_ids[0], len(part))
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error}") from None

    with source, transfer_bar(file.name, total, quiet=quiet) as bar:
        yield parts()
