"""agent-world lease acquire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
@click.option(
    "--keep", is_flag=True, help="Renew it, by lease.ttl_ms at a time, until it is released or the node stops."
)
@json_option
def command(home: Path, ttl_ms: int | None, keep: bool, as_json: bool) -> None:
    """Take the world's lease for this node's validator, by an action in a block; exit code 69 if it is held.

    A lease that was not granted is not waited for. With --keep a lease that this validator holds already is kept.
    """
    with NodeClient(home) as node:
        answer = node.post_json("/lease/acquire", {"ttl_ms": ttl_ms, "keep": keep})
    show(answer, as_json=as_json)
    if answer["code"] != "ok":
        raise Refused(ErrorCode.UNAUTHORIZED, f"the lease was not granted: {answer['code']}{_holder(answer)}")


def _holder(answer: dict[str, Any]) -> str:
    """Who stands in the way, and for how long."""
    holder = answer.get("holder_id")
    if holder is None:
        return ""
    left_ms = answer["expires_at_ms"] - answer["block_time_ms"]
    return f"; {holder} holds it, without a renewal for {left_ms} ms of block time"
