"""agent-world replicas status."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.cli.replicas_shown import show_status


@click.command("status")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Show what this storage node keeps, and its last round: plan, what came of it, when the next is due."""
    with NodeClient(home) as node:
        found = node.get("/replicas")
    if as_json:
        show(found, as_json=True)
    else:
        show_status(found)
