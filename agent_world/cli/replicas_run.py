"""agent-world replicas run."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.cli.replicas_shown import show_status


@click.command("run")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Carry out a round of this node now, and show what came of it."""
    with NodeClient(home) as node:
        found = node.post_json("/replicas/rounds", {})
    if as_json:
        show(found, as_json=True)
    else:
        show_status(found)
