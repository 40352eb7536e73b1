"""agent-world validator changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show_rows
from agent_world.errors import Unavailable
from agent_world.node.chain_views import change_rows
from agent_world.node.stopped import StoppedHome
from agent_world.wire.jsonable import jsonable


@click.command("changes")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """List the changes of the validator set that wait for approvals.

    Asks the node that runs there, or reads the home if none does.
    """
    rows = _changes(home)
    if not as_json:
        rows = [{**row, "kind": row["change"]["kind"], "reason": row["change"]["reason"]} for row in rows]
    columns = ("change_id", "kind", "requester_id", "approvals", "rejections", "reason")
    show_rows(rows, columns, as_json=as_json)


def _changes(home: Path) -> list[dict[str, Any]]:
    try:
        with NodeClient(home) as node:
            found: list[dict[str, Any]] = node.get("/validators/changes")["changes"]
    except Unavailable:
        with StoppedHome(home) as stopped:
            found = jsonable(change_rows(stopped.state))
    return found
