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
    try:
        with file.open("rb") as opened:
            data = opened.read(BLOB_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    if len(data) > BLOB_BYTES_MAX:
        raise UsageError(f"{file} is larger than one blob may be, {BLOB_BYTES_MAX} bytes")
    with NodeClient(home) as node:
        show(node.post_bytes("/blobs", data), as_json=as_json)
