"""agent-world blob put."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.errors import UsageError
from agent_world.wire.limits import BLOB_BYTES_MAX


@click.command("put")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@home_option
@json_option
def command(file: Path, home: Path, as_json: bool) -> None:
    """Store FILE in the node's blob store and print its content hash and CID."""
    size = file.stat().st_size
    if size > BLOB_BYTES_MAX:
        raise UsageError(f"{file} has {size} bytes; one blob holds at most {BLOB_BYTES_MAX}")
    with NodeClient(home) as node:
        show(node.post_bytes("/blobs", file.read_bytes()), as_json=as_json)
