"""agent-world peer ban."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("ban")
@click.argument("peer")
@home_option
@click.option("--hours", type=click.IntRange(1, 8_760), default=24, show_default=True, help="How long.")
@click.option("--reason", default="by the operator", show_default=True, help="Shown in the list of peers.")
@json_option
def command(peer: str, home: Path, hours: int, reason: str, as_json: bool) -> None:
    """Ban PEER (a peer id): end its connections, and neither dial it nor let it in; also after a restart."""
    with NodeClient(home) as node:
        show(node.post_json(f"/peers/{peer}/ban", {"ban_ms": hours * 3_600_000, "reason": reason}), as_json=as_json)
