"""agent-world validator approve."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.errors import ErrorCode, Refused


@click.command("approve")
@click.argument("change_id")
@home_option
@click.option("--reject", is_flag=True, help="Say no instead.")
@json_option
def command(change_id: str, home: Path, reject: bool, as_json: bool) -> None:
    """Say yes to the open change CHANGE_ID of the validator set with this node's validator key.

    The last word of a validator counts. Open changes: agent-world validator changes.
    """
    with NodeClient(home) as node:
        answer = node.post_json(f"/validators/changes/{change_id}", {"approve": not reject})
    show(answer, as_json=as_json)
    if answer["code"] != "ok":
        raise Refused(ErrorCode.STATE_MISMATCH, f"the block did not take it: {answer['code']}")
