"""agent-world blob gc."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.duration import DURATION
from agent_world.cli.output import json_option, show
from agent_world.cli.progress import counts_progress


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--grace", type=DURATION, help="Take only what nothing has reached for so long, such as 10m; else the node's setting.")  # fmt: skip  # noqa: E501
@home_option
@json_option
def command(dry_run: bool, grace: int | None, home: Path, as_json: bool) -> None:
    """Remove content that nothing reaches: no pin, no file of the index, no content of the world that is kept here.

    What the chain has committed always stays. The node goes on meanwhile; it also collects by itself
    (storage.gc_period_s, gc_grace_s, gc_above_percent of quota_bytes).
    """
    with NodeClient(home) as node, counts_progress("looking for garbage", quiet=as_json) as told:
        found = node.post_long("/gc", {"dry_run": dry_run, "grace_ms": grace}, told)
    if as_json:
        show(found, as_json=True)
        return
    went = "would go" if dry_run else "went"
    click.echo(f"nothing reaches {found['unreachable']['items']} blobs of {found['unreachable']['size_bytes']} bytes")
    click.echo(f"{found['freed']['items']} blobs of {found['freed']['size_bytes']} bytes {went}")
    if found["missing"]:
        click.echo(f"{found['missing']} linked blobs are not here")
    if found["damaged"]:
        click.echo(f"{found['damaged']} of them were damaged and are fetched again: until then nothing goes")
