"""agent-world challenge run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import Progress

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show_rows
from agent_world.errors import RemoteError

_COLUMNS: Final = ("challenge_id", "target", "content", "outcome", "reason", "attempts", "took_ms", "detail")


@click.command("run")
@home_option
@click.option("--target", metavar="PEER_ID", help="Whom to challenge; else a storage node is drawn each time.")
@click.option("--content", metavar="CID", help="What to ask for; else committed content is drawn each time.")
@click.option("--count", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many challenges.")
@json_option
def command(home: Path, target: str | None, content: str | None, count: int, as_json: bool) -> None:
    """Challenge storage nodes now, and say what came of each; exit code 76 if any failed."""
    rows: list[dict[str, Any]] = []
    quiet = not sys.stderr.isatty()
    with NodeClient(home) as node, Progress(console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("challenging", total=count)
        for _ in range(count):
            rows.append(node.post_json("/challenges", {"target": target, "content": content}))
            progress.advance(task)
    show_rows(rows, _COLUMNS, as_json=as_json)
    failed = [row for row in rows if row["outcome"] == "failed"]
    if not as_json:
        outcomes = [row["outcome"] for row in rows]
        click.echo(", ".join(f"{outcomes.count(kind)} {kind}" for kind in dict.fromkeys(outcomes)))
    if failed:
        reasons = sorted({row["reason"] for row in failed})
        raise RemoteError("challenge", f"{len(failed)} of {count} failed: {', '.join(reasons)}; see challenge explain")
