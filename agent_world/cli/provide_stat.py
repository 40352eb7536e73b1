"""agent-world provide stat."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("stat")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Show what the node announces in the DHT: how much, how much is due, and whom it knows there."""
    with NodeClient(home) as node:
        show(node.get("/provide"), as_json=as_json)
