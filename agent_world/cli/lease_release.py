"""agent-world lease release."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show


@click.command("release")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Give up the lease that this node's validator holds, and no longer renew it."""
    with NodeClient(home) as node:
        show(node.post_json("/lease/release", {}), as_json=as_json)
