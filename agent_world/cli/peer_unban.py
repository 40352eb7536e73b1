"""agent-world peer unban."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("unban")
@click.argument("peer")
@home_option
@json_option
def command(peer: str, home: Path, as_json: bool) -> None:
    """End the ban of PEER (a peer id) and forget its faults."""
    with NodeClient(home) as node:
        show(node.post_json(f"/peers/{peer}/unban", {}), as_json=as_json)
