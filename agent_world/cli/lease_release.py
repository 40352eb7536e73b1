"""agent-world lease release."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.errors import ErrorCode, Refused


@click.command("release")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Give up the lease that this node's validator holds, and no longer renew it.

    Exit code 69 if it does not hold it, or not any more when the block came; then too it no longer tries to hold it.
    """
    with NodeClient(home) as node:
        answer = node.post_json("/lease/release", {})
    show(answer, as_json=as_json)
    if answer["code"] != "ok":
        raise Refused(ErrorCode.UNAUTHORIZED, f"there was no lease of this validator to release: {answer['code']}")
