"""agent-world fs cp."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.fs_files import tell_if_local
from agent_world.cli.output import json_option, show
from agent_world.errors import UsageError


@click.command("cp")
@click.argument("source")
@click.argument("path")
@click.option("--if-match", metavar="HASH", help="Only if this content hash (64 hex digits) is at PATH now.")
@click.option("--if-absent", is_flag=True, help="Only if nothing is at PATH.")
@home_option
@json_option
def command(source: str, path: str, if_match: str | None, if_absent: bool, home: Path, as_json: bool) -> None:
    """Put what is at SOURCE of the node's file index also at PATH; no content is copied."""
    if if_match is not None and if_absent:
        raise UsageError("--if-match and --if-absent exclude each other")
    asked = {"source": source, "path": path, "if_match": if_match, "if_absent": if_absent}
    with NodeClient(home) as node:
        copied = node.post_json("/fs/copy", asked)
    show(copied, as_json=as_json)
    tell_if_local(copied)
