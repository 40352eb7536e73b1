"""agent-world blob put."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.file_parts import file_parts
from agent_world.cli.output import json_option, show


@click.command("put")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@home_option
@json_option
def command(file: Path, home: Path, as_json: bool) -> None:
    """Store FILE, of any size, in the node's blob store and print its content hash and CID.

    Up to 1 MiB it is one blob; above that its chunks are stored and a manifest names them. It is pinned under its
    CID, so that it stays until `blob unpin CID`.
    """
    with NodeClient(home) as node, file_parts(file, quiet=as_json) as parts:
        show(node.post_stream("/content", parts), as_json=as_json)
