"""agent-world world block."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("block")
@click.argument("height", type=click.IntRange(min=1))
@home_option
@json_option
def command(height: int, home: Path, as_json: bool) -> None:
    """Show the block at HEIGHT with its actions, receipts and certificate."""
    with NodeClient(home) as node:
        show(node.get(f"/blocks/{height}"), as_json=as_json)
