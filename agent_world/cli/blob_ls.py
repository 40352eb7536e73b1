"""agent-world blob ls."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show_rows

_PAGE: Final = 1_000


@click.command("ls")
@click.option("--prefix", default="", help="Only blobs whose content hash begins with these hex digits.")
@click.option("--after", help="Only blobs above this content hash.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many at most.")
@home_option
@json_option
def command(prefix: str, after: str | None, limit: int, home: Path, as_json: bool) -> None:
    """List the blobs that the node stores, by content hash.

    A file above 1 MiB is many blobs: its chunks, and the manifest by which it is asked for.
    """
    rows: list[dict[str, Any]] = []
    with NodeClient(home) as node:
        while len(rows) <= limit:
            asked = min(_PAGE, limit + 1 - len(rows))
            page = node.get("/blobs", prefix=prefix, after=after, limit=asked)["blobs"]
            rows += page
            if len(page) < asked:
                break
            after = page[-1]["content_hash"]
    show_rows(rows[:limit], ["content_hash", "size_bytes", "is_file"], as_json=as_json)
    if len(rows) > limit:
        click.echo(f"there are more: --after {rows[limit - 1]['content_hash']}, or a higher --limit", err=True)
