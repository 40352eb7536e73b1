"""agent-world validator approve."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.errors import DecodeError, ErrorCode, Refused, UsageError
from agent_world.wire.cid import parse_content_hash


@click.command("approve")
@click.argument("change_id")
@home_option
@click.option("--reject", is_flag=True, help="Say no instead.")
@json_option
def command(change_id: str, home: Path, reject: bool, as_json: bool) -> None:
    """Say yes to the open change CHANGE_ID of the validator set with this node's validator key.

    The last word of a validator counts. Open changes: agent-world validator changes.
    """
    try:
        parse_content_hash(change_id)
    except DecodeError:
        raise UsageError(
            f"{change_id!r:.80} is no id of a change: 64 lower-case hex digits, see agent-world validator changes"
        ) from None
    with NodeClient(home) as node:
        answer = node.post_json(f"/validators/changes/{change_id}", {"approve": not reject})
    show(answer, as_json=as_json)
    if answer["code"] != "ok":
        raise Refused(ErrorCode.STATE_MISMATCH, f"the block did not take it: {answer['code']}")
