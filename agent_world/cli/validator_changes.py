"""agent-world validator changes."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.ask_home import ask_or_read
from agent_world.cli.client import home_option
from agent_world.cli.output import json_option, show_rows
from agent_world.node.chain_views import change_rows


@click.command("changes")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """List the changes of the validator set that wait for approvals.

    Asks the node that runs there, or reads the home if none does.
    """
    rows = ask_or_read(home, "/validators/changes", lambda stopped: {"changes": change_rows(stopped.state)})["changes"]
    if not as_json:
        rows = [{**row, "kind": row["change"]["kind"], "reason": row["change"]["reason"]} for row in rows]
    columns = ("change_id", "kind", "requester_id", "approvals", "rejections", "reason")
    show_rows(rows, columns, as_json=as_json)
