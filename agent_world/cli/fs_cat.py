"""agent-world fs cat."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from agent_world.cli.blob_get import write_new
from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.cli.progress import bytes_progress, counted


@click.command("cat")
@click.argument("path")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; it must not exist.")  # fmt: skip  # noqa: E501
@click.option("--offset", type=click.IntRange(0), default=0, help="First byte that is wanted.")
@click.option("--length", type=click.IntRange(0), help="How many bytes at most; all if not given.")
@home_option
@json_option
def command(path: str, output: Path | None, offset: int, length: int | None, home: Path, as_json: bool) -> None:
    """Print the file at PATH of the node's file index, or write it to a file.

    Its bytes are verified by the node; what is not there is fetched from its peers.
    """
    query: dict[str, Any] = {"path": path, "offset": offset}
    if length is not None:
        query["length"] = length
    with NodeClient(home) as node, node.get_stream("/fs/file", **query) as (parts, size):
        quiet = as_json or output is None
        with bytes_progress(path, size, quiet=quiet) as bar:
            _deliver(counted(parts, bar), path, output, as_json=as_json)


def _deliver(stream: Iterator[bytes], path: str, output: Path | None, *, as_json: bool) -> None:
    if output is not None:
        show({"path": path, "size_bytes": write_new(output, stream), "file": str(output)}, as_json=as_json)
    elif as_json:
        data = b"".join(stream)
        show({"path": path, "size_bytes": len(data), "data": data}, as_json=True)
    else:
        for part in stream:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
