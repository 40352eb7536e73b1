"""agent-world validator epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import trio

from agent_world.cli.ask_home import ask_or_read
from agent_world.cli.client import home_option
from agent_world.cli.output import json_option, show, show_rows
from agent_world.node.epoch_report import epoch_report

_MEMBER_COLUMNS: Final = (
    "validator_id", "stake", "stake_per_mille", "proposed", "proposed_per_mille", "signed", "heights_in_set",
)  # fmt: skip
_LISTS: Final = {
    "equivocations": ("validator_id", "kind", "height", "round", "loses_seat", "recorded_at_height", "caused_by"),
    "changes_decided": ("change_id", "approved", "code", "recorded_at_height"),
    "sets_taking_over": ("validators_hash", "epoch", "recorded_at_height"),
    "lease_changes": ("term", "holder_id", "recorded_at_height"),
}


@click.command("epoch")
@click.argument("epoch", type=click.IntRange(0, 2**63 - 1), required=False)
@home_option
@json_option
def command(epoch: int | None, home: Path, as_json: bool) -> None:
    """Report on EPOCH, by default the one under way: who proposed and signed, which sets changed, who equivocated.

    Asks the node that runs there, or reads the home if none does. Compare proposed_per_mille with stake_per_mille;
    a validator that signed far fewer than its heights_in_set was away or slow.

    \b
    Example:
      agent-world validator epoch --home swarm/observer-1
      agent-world validator epoch 12 --home swarm/observer-1 --json
    """
    path = "/epochs" if epoch is None else f"/epochs/{epoch}"
    found = ask_or_read(home, path, lambda stopped: trio.run(epoch_report, stopped, stopped.blobs.get, epoch))
    if as_json:
        show(found, as_json=True)
        return
    end = "it is over" if found["is_over"] else "it is under way"
    click.echo(f"epoch {found['epoch']}: heights {found['first_height']} to {found['last_height']}, {end}")
    if found["looked_at_from"] > found["first_height"]:
        click.echo(f"figures from height {found['looked_at_from']} on: the epoch is too long to look at all of it")
    click.echo(
        f"{found['blocks']} blocks, {found['blocks_after_round_0']} of them after round 0 (highest"
        f" {found['highest_round']}), {found['events']} events"
    )
    show_rows(found["validators"], _MEMBER_COLUMNS, as_json=False)
    for name, columns in _LISTS.items():
        if found[name]:
            click.echo(f"\n{name.replace('_', ' ')}")
            show_rows(found[name], columns, as_json=False)
