"""agent-world lease acquire."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.errors import ErrorCode, Refused
from agent_world.wire.limits import LEASE_TTL_MS_MAX


@click.command("acquire")
@home_option
@click.option(
    "--ttl-ms",
    type=click.IntRange(1, LEASE_TTL_MS_MAX),
    help="How long to hold it; the node's lease.ttl_ms if not given.",
)
@click.option("--keep", is_flag=True, help="Renew it until it is released or the node stops.")
@json_option
def command(home: Path, ttl_ms: int | None, keep: bool, as_json: bool) -> None:
    """Take the world's lease for this node's validator, by an action in a block; exit code 69 if it is held."""
    with NodeClient(home) as node:
        answer = node.post_json("/lease/acquire", {"ttl_ms": ttl_ms, "keep": keep})
    show(answer, as_json=as_json)
    if answer["code"] != "ok":
        raise Refused(ErrorCode.UNAUTHORIZED, f"the lease was not granted: {answer['code']}")
