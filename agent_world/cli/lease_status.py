"""agent-world lease status."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("status")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Show who holds the world's lease, its term, and when it ends by block time."""
    with NodeClient(home) as node:
        show(node.get("/lease"), as_json=as_json)
