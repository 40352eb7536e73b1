"""agent-world replication status."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("status")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Show who writes the record log, how far it is here, what waits to be published, and what the gate says."""
    with NodeClient(home) as node:
        show(node.get("/replication"), as_json=as_json)
