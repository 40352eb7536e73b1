"""agent-world world events."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show_rows


@click.command("events")
@click.option("--from-height", type=click.IntRange(min=1), help="First block looked at; the newest 20 if not given.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Events shown.")
@home_option
@json_option
def command(from_height: int | None, limit: int, home: Path, as_json: bool) -> None:
    """List what happened in the world, oldest first."""
    with NodeClient(home) as node:
        answer = node.get("/events", from_height=from_height, limit=limit)
    show_rows(answer["events"], ("event_id", "height", "kind", "payload"), as_json=as_json)
