"""agent-world provide once."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("once")
@click.argument("cids", nargs=-1)
@home_option
@json_option
def command(cids: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Announce CIDS, which the node must have, and then what is due, without waiting for its turn.

    What is announced once is announced again until it is gone from here.
    """
    with NodeClient(home) as node:
        show(node.post_json("/provide", {"cids": list(cids)}), as_json=as_json)
