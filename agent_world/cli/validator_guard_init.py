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
)
_WAITS: Final = (
    "The new guard signs nothing before a height begins after the node has caught up. If the world cannot decide its\n"
    "present height without this validator, it stands still: then see --at-once."
)
_AT_ONCE: Final = (
    "It signs at height {height} at once, where it may have signed something else: that costs it its seat, and where\n"
    "its stake decides it can split the world. Do so only if the world stands still without it and no node has that\n"
    "height."
)


@click.command("init")
@stopped_home_option
@click.option("--lost", is_flag=True, help="The guard was in use and is lost for good: make a new one even so.")
@click.option(
    "--at-once",
    is_flag=True,
    help="With --lost, for a world that stands still: do not wait for a height that begins after the start.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def command(home: Path, lost: bool, at_once: bool, yes: bool, as_json: bool) -> None:
    """Make the vote guard of a validator that has none, and with --lost in place of one that was lost or damaged.

    The node makes the guard of a new validator by itself. A guard that is sound is never touched. With --lost --at-once
    one that waits, since it does not know all that was signed, waits no longer.
    """
    if at_once and not lost:
        raise UsageError("--at-once is for a guard that is lost: add --lost")
    with stopped_validator(home) as validator:
        is_new, is_asked = not validator.has_guard, yes
        danger = _DANGER + (_AT_ONCE.format(height=validator.height + 1) if at_once else _WAITS)
        try:
            guard = validator.guard()
        except GuardLost as error:
            if not lost:
                raise
            _confirm(f"{error}\n\n{danger}", "Make a new guard?", yes=is_asked)
            guard = validator.guard(lost=True)
            is_new = is_asked = True
        with guard:
            is_resumed = at_once and guard.load().watching
            if is_resumed:
                _confirm(danger, "Let the guard sign at once?", yes=is_asked)
                guard.resume(validator.height)
            state, found = guard.load(), guard.disagreement
    if not (is_new or is_resumed or found):
        waiting = (
            "was damaged or lost before and waits for a height that begins after the node's start; if the world stands"
            " still without this validator: --lost --at-once"
        )
        raise UsageError(
            f"{home} has a vote guard that {waiting if state.watching else 'is sound'}; nothing was changed"
        )
    show(
        {
            "validator_key": validator.identity.validator_key,
            "found": found or None,
            "sign_floor": state.sign_floor,
            "waits_for_a_new_height": state.watching,
        },
        as_json=as_json,
    )


def _confirm(danger: str, question: str, *, yes: bool) -> None:
    if not yes:
        click.echo(danger, err=True)
        click.confirm(question, abort=True, err=True)
