"""agent-world fs import."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.duration import DURATION
from agent_world.cli.output import json_option, show
from agent_world.cli.progress import count_progress

_TURN_MS: Final = 5_000
"""The node answers this often while it fetches."""


@click.command("import")
@click.argument("content_hash")
@click.argument("size_bytes", type=click.IntRange(0))
@click.option("--timeout", type=DURATION, default="60s", show_default=True,
              help="Give up when nothing more has come for so long.")  # fmt: skip
@home_option
@json_option
def command(content_hash: str, size_bytes: int, timeout: int, home: Path, as_json: bool) -> None:
    """Let the node's file index be the one of a reference that `fs export` printed, here or on another node.

    The manifest and the content of all files are fetched from peers, and every byte is checked. Only once all is there
    the index is replaced, in one step; if anything is wrong or missing it stays as it is. What was fetched is kept for
    another try.

    \b
    Example:
      agent-world fs import 8c1f... 1234 --home swarm/storage-2
    """
    asked = {"content_hash": content_hash, "size_bytes": size_bytes, "timeout_ms": min(_TURN_MS, timeout)}
    fetched = 0
    with NodeClient(home) as node, count_progress("fetching", quiet=as_json) as bar:
        last = time.monotonic()
        while True:
            found = node.post_json("/fs/import", asked)
            fetched += found["fetched"]
            bar.update(bar.task_ids[0], description=f"fetched {fetched} blobs")
            if found["done"]:
                break
            if found["fetched"]:
                last = time.monotonic()
            # With all of the time gone the node says what nobody has given.
            asked["timeout_ms"] = max(0, min(_TURN_MS, timeout - int((time.monotonic() - last) * 1000)))
    show({"files": found["files"], "fetched": fetched}, as_json=as_json)
