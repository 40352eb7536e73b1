"""agent-world lease status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.errors import Unavailable
from agent_world.node.lease_keeper import lease_of
from agent_world.node.stopped import StoppedHome
from agent_world.wire.jsonable import jsonable


@click.command("status")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Show who holds the world's lease, its term, and when it ends by block time.

    Asks the node that runs there, or reads the home if none does.
    """
    show(_lease(home), as_json=as_json)


def _lease(home: Path) -> Any:
    try:
        with NodeClient(home) as node:
            return node.get("/lease")
    except Unavailable:
        with StoppedHome(home) as stopped:
            return {**jsonable(lease_of(stopped)), "held_here": False, "keeps_it": False}
