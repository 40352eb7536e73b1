"""agent-world blob put."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.cli.progress import bytes_progress, counted
from agent_world.errors import UsageError
from agent_world.wire.limits import MIB


@click.command("put")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@home_option
@json_option
def command(file: Path, home: Path, as_json: bool) -> None:
    """Store FILE, of any size, in the node's blob store and print its content hash and CID.

    Up to 1 MiB it is one blob; above that its chunks are stored and a manifest names them.
    """
    with NodeClient(home) as node, bytes_progress(f"storing {file.name}", _size(file), quiet=as_json) as bar:
        stored = node.post_stream("/content", counted(_parts(file), bar))
    show(stored, as_json=as_json)


def _size(file: Path) -> int | None:
    """Bytes of a regular file; None for a pipe or a device, which ends when it ends."""
    try:
        found = file.stat()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error}") from None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _parts(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as source:
            while part := source.read(MIB):
                yield part
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error}") from None
