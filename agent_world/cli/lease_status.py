"""agent-world lease status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent_world.cli.ask_home import ask_or_read
from agent_world.cli.client import home_option
from agent_world.cli.output import json_option, show
from agent_world.node.lease_keeper import lease_of
from agent_world.node.stopped import StoppedHome


@click.command("status")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Show who holds the world's lease, its term, and when it ends by block time.

    Asks the node that runs there, or reads the home if none does.
    """
    show(ask_or_read(home, "/lease", _read), as_json=as_json)


def _read(stopped: StoppedHome) -> dict[str, Any]:
    return {**lease_of(stopped), "held_here": False, "keeps_it": False}
