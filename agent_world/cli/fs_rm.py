"""agent-world fs rm."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("rm")
@click.argument("path")
@click.option("--if-match", metavar="HASH", help="Only if this content hash (64 hex digits) is there now.")
@home_option
@json_option
def command(path: str, if_match: str | None, home: Path, as_json: bool) -> None:
    """Remove PATH from the node's file index. Its content goes with a later `blob gc`, if nothing else reaches it.

    Exits with 1 if there was no such file.
    """
    with NodeClient(home) as node:
        found = node.post_json("/fs/remove", {"path": path, "if_match": if_match})
    show(found, as_json=as_json)
    if not found["removed"]:
        sys.exit(1)
