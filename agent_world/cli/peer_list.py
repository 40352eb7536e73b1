"""agent-world peer list."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show_rows

_COLUMNS: Final = (
    "peer_id", "address", "role", "validator", "protected", "score", "banned_until_ms", "reason", "address_limit",
    "latency_ms", "received", "sent", "dropped",
)  # fmt: skip


@click.command("list")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """List connected, banned and refused peers with their score, why they are banned, and what they sent."""
    with NodeClient(home) as node:
        rows: list[dict[str, Any]] = node.get("/peers")["peers"]
    if not as_json:
        for row in rows:
            counters = row["counters"]
            row |= {name: counters[name] for name in ("received", "sent")}
            row["dropped"] = sum(counters["dropped"].values())
    show_rows(rows, _COLUMNS, as_json=as_json)
