"""agent-world blob unpin."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("unpin")
@click.argument("name")
@home_option
@json_option
def command(name: str, home: Path, as_json: bool) -> None:
    """Remove the pin NAME. If nothing else reaches its content, a later `blob gc` removes that.

    Content of `blob put` is pinned under its CID.
    """
    with NodeClient(home) as node:
        show(node.post_json("/pins/remove", {"name": name}), as_json=as_json)
