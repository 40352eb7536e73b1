"""agent-world challenge explain."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("explain")
@click.argument("challenge_id")
@home_option
@json_option
def command(challenge_id: str, home: Path, as_json: bool) -> None:
    """Say what challenge CHALLENGE_ID asked, what came back, and why it has its outcome; the last 512 are kept."""
    with NodeClient(home) as node:
        show(node.get(f"/challenges/{challenge_id}"), as_json=as_json)
