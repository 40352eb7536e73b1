"""agent-world validator guard init."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from agent_world.cli.output import json_option, show
from agent_world.cli.stopped_validator import stopped_home_option, stopped_validator
from agent_world.errors import GuardLost, UsageError

_DANGER: Final = (
    "What this validator has signed is forgotten for good. If its guard still exists anywhere, restore that instead;\n"
    "if another process runs with this key, the two will contradict each other, which costs the validator its seat.\n"
    "The new guard signs nothing before a height begins after the node has caught up. If the world cannot decide its\n"
    "present height without this validator, it stands still."
)


@click.command("init")
@stopped_home_option
@click.option("--lost", is_flag=True, help="The guard was in use and is lost for good: make a new one even so.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def command(home: Path, lost: bool, yes: bool, as_json: bool) -> None:
    """Make the vote guard of a validator that has none, and with --lost in place of one that was lost or damaged.

    The node makes the guard of a new validator by itself. A guard that is sound is never touched.
    """
    with stopped_validator(home) as validator:
        had_guard = validator.has_guard
        try:
            guard = validator.guard()
        except GuardLost as error:
            if not lost:
                raise
            if not yes:
                click.echo(f"{error}\n\n{_DANGER}", err=True)
                click.confirm("Make a new guard?", abort=True, err=True)
            guard = validator.guard(lost=True)
            had_guard = False
        with guard:
            state, found = guard.load(), guard.disagreement
    if had_guard and not found:
        if state.watching:
            raise UsageError(
                f"{home} has a vote guard that was damaged or lost before and waits for a height that begins after the"
                " node's start; nothing was changed"
            )
        raise UsageError(f"{home} has a sound vote guard; nothing was changed")
    show(
        {
            "validator_key": validator.identity.validator_key,
            "found": found or None,
            "sign_floor": state.sign_floor,
            "waits_for_a_new_height": state.watching,
        },
        as_json=as_json,
    )
