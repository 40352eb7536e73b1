"""agent-world world head."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("head")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Show the last committed block: height, hash, state root, who certified it."""
    with NodeClient(home) as node:
        show(node.get("/head"), as_json=as_json)
