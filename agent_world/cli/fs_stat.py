"""agent-world fs stat."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("stat")
@click.argument("path")
@home_option
@json_option
def command(path: str, home: Path, as_json: bool) -> None:
    """Show CID, content hash, size and time of the file at PATH of the node's file index."""
    with NodeClient(home) as node:
        show(node.get("/fs/stat", path=path), as_json=as_json)
