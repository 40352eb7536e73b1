"""agent-world replication commit."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.wire.limits import I64_MAX


@click.command("commit")
@click.argument("height", type=click.IntRange(1, I64_MAX))
@home_option
@json_option
def command(height: int, home: Path, as_json: bool) -> None:
    """Show the writer's record of a committed HEIGHT, from the node or its peers; exit code 69 if nobody has it."""
    with NodeClient(home) as node:
        show(node.get(f"/replication/commits/{height}"), as_json=as_json)
