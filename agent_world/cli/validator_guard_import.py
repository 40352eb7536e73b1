"""agent-world validator guard import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent_world.cli.output import json_option, show
from agent_world.cli.stopped_validator import StoppedValidator, stopped_home_option, stopped_validator
from agent_world.consensus.guard_interchange import (
    INTERCHANGE_BYTES_MAX,
    Interchange,
    SignedPlace,
    check_identity,
    parse,
)
from agent_world.errors import UsageError


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@stopped_home_option
@json_option
def command(file: Path, home: Path, as_json: bool) -> None:
    """Forbid this validator's guard all that FILE says was signed elsewhere, in the form of docs/guard.md.

    Only ever forbids more, and the same file twice changes nothing. A home that never had a guard gets one. The whole
    FILE is taken in or, if anything in it is wrong or of another world or key, nothing of it.
    """
    told = parse(_read(file))
    with stopped_validator(home) as validator:
        check_identity(told, validator.identity)
        done = _take_in(validator, told)
    contradictions: tuple[SignedPlace, ...] = done["contradictions"]
    shown = {**done, "contradictions": [_shown(item) for item in contradictions]}
    show(shown, as_json=as_json)
    for item in contradictions:
        place = item.place
        click.echo(
            f"warning: height {place.height} round {place.round} {place.step}: this validator has signed something "
            "else there; the two together are evidence against it",
            err=True,
        )


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(INTERCHANGE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def _take_in(validator: StoppedValidator, told: Interchange) -> dict[str, Any]:
    is_new = not validator.has_guard
    options: dict[str, Any] = {}
    if is_new:
        # The new guard forbids all of the file from its first byte on: a crash leaves no guard that knows less.
        mark_height = 0 if told.watermark is None else told.watermark.height
        options = {"committed_height": max(validator.height, told.sign_floor, mark_height), "was_seated": False}
    with validator.guard(**options) as guard:
        before = guard.load().sign_floor
        taken = guard.take_in(told, validator.identity.world_id)
    return {
        "validator_key": told.identity.validator_key,
        "guard_made": is_new,
        "messages": len(told.signed),
        "messages_known": taken.known,
        "sign_floor_before": None if is_new else before,
        "sign_floor": taken.sign_floor,
        "changed": is_new or taken.sign_floor != before,
        "contradictions": taken.contradictions,
    }


def _shown(item: SignedPlace) -> dict[str, Any]:
    place = item.place
    return {"height": place.height, "round": place.round, "step": place.step, "block_hash": item.block_hash}
