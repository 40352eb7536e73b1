"""agent-world validator list."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from agent_world.cli.ask_home import ask_or_read
from agent_world.cli.client import home_option
from agent_world.cli.output import json_option, show, show_rows
from agent_world.node.chain_views import ChainViews

_MEMBER_COLUMNS: Final = ("set", "validator_id", "stake", "public_key")
_CHANGE_COLUMNS: Final = ("change_id", "kind", "requester", "approvals", "rejections", "stake", "lapses_after_epoch")
_EQUIVOCATION_COLUMNS: Final = ("validator_id", "kind", "height", "round", "recorded_at_height", "evidence")


@click.command("list")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """List who decides the next height and who takes over, with open changes and the equivocations on record.

    Asks the node that runs there, or reads the home if none does.

    \b
    Example:
      agent-world validator list --home swarm/observer-1
    """
    found = ask_or_read(home, "/validators", lambda stopped: ChainViews(stopped, stopped.blobs).validators())
    if as_json:
        show(found, as_json=True)
        return
    left = found["slots_to_boundary"]
    boundary = "the epoch does not end" if left is None else f"{left} slots to the boundary"
    click.echo(f"after height {found['height']}: epoch {found['epoch']}, {boundary}; lease term {found['lease_term']}")
    for name in ("current", "coming"):
        if found[name] is not None:
            click.echo(f"{name}: stake {found[name]['total_stake']}, {found[name]['required_stake']} decide")
    members = [row for name in ("current", "coming") for row in _members(name, found[name])]
    show_rows(members, _MEMBER_COLUMNS, as_json=False)
    if found["changes"]:
        click.echo("\nopen changes")
        show_rows([_change(item) for item in found["changes"]], _CHANGE_COLUMNS, as_json=False)
    if found["equivocations"]:
        click.echo(f"\nequivocations on record: {found['equivocations']}; the newest:")
        rows = [{**item["place"], **item["equivocation"]} for item in found["newest_equivocations"]]
        show_rows(rows, _EQUIVOCATION_COLUMNS, as_json=False)


def _members(name: str, shown: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [] if shown is None else [{"set": name, **member} for member in shown["validators"]]


def _change(item: dict[str, Any]) -> dict[str, Any]:
    change = item["change"]
    return {
        "change_id": item["change_id"],
        "kind": change["change"]["kind"],
        "requester": change["requester_id"],
        "approvals": " ".join(change["approvals"]),
        "rejections": " ".join(change["rejections"]),
        "stake": f"{item['approved_stake']}/{item['required_stake']}",
        "lapses_after_epoch": item["lapses_after_epoch"],
    }
