"""agent-world validator guard export."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.output import json_option, show
from agent_world.cli.stopped_validator import stopped_home_option, stopped_validator
from agent_world.consensus.guard_interchange import to_json
from agent_world.errors import UsageError
from agent_world.store.durable import write_new_file


@click.command("export")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@stopped_home_option
@json_option
def command(file: Path | None, home: Path, as_json: bool) -> None:
    """Write what this validator has signed to FILE, or print it, in the form of docs/guard.md.

    The node must be stopped, and stay stopped if another one is to go on with its key. Nothing in the file is secret.
    An existing FILE is not overwritten.
    """
    with stopped_validator(home) as validator:
        if not validator.has_guard:
            raise UsageError(f"{home} has no vote guard to export")
        with validator.guard() as guard:
            exported = guard.export(validator.identity.world_id)
    text = to_json(exported)
    if file is None:
        click.echo(text, nl=False)
        return
    try:
        write_new_file(file, text.encode())
    except FileExistsError:
        raise UsageError(f"{file} exists already; it is not overwritten") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None
    mark = exported.watermark
    show(
        {
            "file": str(file),
            "validator_key": exported.identity.validator_key,
            "watermark": None if mark is None else {"height": mark.height, "round": mark.round, "step": mark.step},
            "sign_floor": exported.sign_floor,
            "messages": len(exported.signed),
        },
        as_json=as_json,
    )
