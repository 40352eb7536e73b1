"""How plans and rounds of replica maintenance look to people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import click

from agent_world.cli.output import show_rows
from agent_world.cli.printable import say

_TASKS: Final = ("kind", "content", "source", "target", "holder")
_FAILED: Final = ("kind", "content", "source", "target", "holder", "error")


def show_plan(plan: dict[str, Any]) -> None:
    """What a round has looked at, and what it would do or did."""
    copies = ", ".join(f"{items} with {count}" for count, items in plan["contents_by_copies"].items())
    click.echo(f"looked at {plan['looked_at']} contents: {copies or 'none'}; {plan['below_target']} below the target")
    if plan["claims_doubted"]:
        click.echo(f"{plan['claims_doubted']} claims to hold a content do not count: it was not shown")
    tasks = [*plan["repair_tasks"], *plan["rebalance_tasks"], *plan["release_tasks"]]
    if tasks:
        show_rows([{name: task.get(name, "") for name in _TASKS} for task in tasks], _TASKS, as_json=False)
    for warning in plan["warnings"]:
        say(f"warning: {warning}")


def show_status(status: dict[str, Any]) -> None:
    """What is kept at this node, and its last round."""
    target = status["target"]
    click.echo("target: every storage node keeps everything" if not target else f"target: {target} copies")
    own = ", ".join(f"{row['items']} {state} ({row['bytes']} bytes)" for state, row in status["own"].items())
    click.echo(f"storage nodes: {len(status['storage_nodes'])}; contents here: {own}")
    if status["last_release_error"]:
        say(f"not given up: {status['last_release_error']}")
    if status["takes_part"]:
        click.echo(
            f"next round: {datetime.fromtimestamp(status['next_round_at_ms'] / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
        )
    last = status["last_round"]
    if last is None:
        click.echo("no round yet" if status["takes_part"] else "this node plans no copies")
        return
    show_plan(last)
    report = last["report"]
    click.echo(
        f"attempted {report['attempted_tasks']}, succeeded {report['succeeded_tasks']},"
        f" under way {report['under_way_tasks']}, deferred {report['deferred_tasks']},"
        f" failed {len(report['failed_tasks'])}; {report['copied_bytes']} bytes copied"
    )
    failed = [{**row["task"], "error": row["error"]} for row in report["failed_tasks"]]
    if failed:
        show_rows([{name: row.get(name, "") for name in _FAILED} for row in failed], _FAILED, as_json=False)
