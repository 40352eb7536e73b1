"""agent-world replicas plan."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.cli.replicas_shown import show_plan


@click.command("plan")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Show what a round of this node would do now; nothing is done."""
    with NodeClient(home) as node:
        found = node.get("/replicas/plan")
    if as_json:
        show(found, as_json=True)
    else:
        show_plan(found)
