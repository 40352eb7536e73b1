"""agent-world node rollback."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from agent_world.cli.client import home_option
from agent_world.cli.output import json_option, show
from agent_world.node.rollback import roll_back


@click.command("rollback")
@home_option
@click.option(
    "--from",
    "from_height",
    type=click.IntRange(min=1),
    help="First height executed again; the last one if not given. 1 makes the whole state anew from genesis.",
)
@json_option
def command(home: Path, from_height: int | None, as_json: bool) -> None:
    """Throw away the state of the last height and execute its block again: for a state that was damaged.

    Block, certificate, vote guard and the committed height stay. Exits with 65, and has changed nothing, if the
    execution gives another root than the block, or if the state before is damaged too: then name a lower --from. The
    node must be stopped.

    \b
    Example:
      agent-world node rollback --home swarm/storage-1
      agent-world node rollback --home swarm/storage-1 --from 120
    """
    done = roll_back(home, from_height=from_height)
    shown = {field.name: getattr(done, field.name) for field in attrs.fields(type(done))}
    show(shown, as_json=as_json)
