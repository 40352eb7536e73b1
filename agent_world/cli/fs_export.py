"""agent-world fs export."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("export")
@click.option("--pin", metavar="NAME", help="Name of the pin that keeps it; by default that of the last export.")
@home_option
@json_option
def command(pin: str | None, home: Path, as_json: bool) -> None:
    """Store the node's file index as content, and print its reference: content hash and size.

    The same index gives the same reference. Another node takes it in with `fs import`, and needs nothing else.
    """
    with NodeClient(home) as node:
        show(node.post_json("/fs/export", {"pin": pin}), as_json=as_json)
