"""Progress of long work, for whoever looks: on stderr, and only if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


@contextmanager
def bytes_progress(what: str, total: int | None, *, quiet: bool = False) -> Iterator[Progress]:
    """A bar of bytes; its only task has the id ``progress.task_ids[0]``. ``total`` in bytes, None if it is unknown."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=_console(quiet),
        transient=True,
    ) as bar:
        bar.add_task(what, total=total)
        yield bar


@contextmanager
def count_progress(what: str, *, quiet: bool = False) -> Iterator[Progress]:
    """A bar of things that are counted; as ``bytes_progress``, and of no total at first."""
    with Progress(console=_console(quiet), transient=True) as bar:
        bar.add_task(what, total=None)
        yield bar


@contextmanager
def counts_progress(what: str, *, quiet: bool = False) -> Iterator[Callable[[dict[str, int]], None]]:
    """Work of unknown length that tells how much it has done of this and that."""
    with count_progress(what, quiet=quiet) as bar:

        def told(counts: dict[str, int]) -> None:
            done = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count)
            bar.update(bar.task_ids[0], description=f"{what}: {done}" if done else what)

        yield told


def counted(parts: Iterator[bytes], bar: Progress) -> Iterator[bytes]:
    """The parts, each of which moves the bar on."""
    for part in parts:
        yield part
        bar.advance(bar.task_ids[0], len(part))


def _console(quiet: bool) -> Console:
    return Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
