"""agent-world challenge status."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show, show_rows

_TARGETS: Final = (
    "target", "total_checks", "passed_checks", "failed_checks", "failure_reasons", "offline", "contained", "suspects",
    "backoff_until_unix_ms", "last_backoff_reason",
)  # fmt: skip
_RECENT: Final = ("challenge_id", "target", "outcome", "reason", "took_ms")


@click.command("status")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Show what challenges have shown of each storage node, of this node's own disk, and the last challenges."""
    with NodeClient(home) as node:
        found: dict[str, Any] = node.get("/challenges")
    if as_json:
        show(found, as_json=True)
        return
    report = found["distfs_challenge_report"]
    targets = report["targets"]
    show_rows([{"target": peer, **row} for peer, row in targets.items()], _TARGETS, as_json=False)
    own = found["distfs_probe_cursor_state"]
    checks, failed = own["cumulative_total_checks"], own["cumulative_failed_checks"]
    click.echo(f"own disk: {checks} checks, {failed} failed")
    show_rows(found["recent"], _RECENT, as_json=False)
