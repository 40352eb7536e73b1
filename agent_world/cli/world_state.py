"""agent-world world state."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show, show_rows


@click.command("state")
@click.argument("key", required=False)
@click.option("--namespace", type=click.Choice(["system", "rules"]), default="system", show_default=True)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Entries listed.")
@click.option("--proof", is_flag=True, help="Add the proof of KEY (inclusion or absence) against the state root.")
@home_option
@json_option
def command(key: str | None, namespace: str, limit: int, proof: bool, home: Path, as_json: bool) -> None:
    """Show the record under KEY in the state (such as actor/ACTOR_ID), or list the namespace without KEY."""
    with NodeClient(home) as node:
        if key is not None:
            show(node.get(f"/state/{namespace}", key=key, proof=int(proof)), as_json=as_json)
            return
        answer = node.get(f"/state/{namespace}", limit=limit)
        if as_json:
            show(answer, as_json=True)
        else:
            show_rows(answer["entries"], ("key", "value"), as_json=False)
