"""agent-world world replay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import attrs
import click
from rich.console import Console
from rich.progress import Progress

from agent_world.cli.client import home_option
from agent_world.cli.output import json_option, show, show_rows
from agent_world.cli.printable import say
from agent_world.errors import DataError
from agent_world.node.replay_range import HeightReport, RangeReplay
from agent_world.store.home import Home

_COLUMNS: Final = ("height", "actions", "applied", "rejected", "events", "state_root", "ms", "differences")


@click.command("replay")
@home_option
@click.option("--from", "first", type=click.IntRange(min=1), default=1, show_default=True, help="First height.")
@click.option("--to", "last", type=click.IntRange(min=1), help="Last height; the committed one if not given.")
@json_option
def command(home: Path, first: int, last: int | None, as_json: bool) -> None:
    """Execute a range of heights again and show what each did, how long it took and where it differs from the store.

    Begins at the stored state before the first height, or at genesis if that is not here. Writes nothing; the node
    may run. Exits with 65 at a difference, naming the first height and field.

    \b
    Example:
      agent-world world replay --home swarm/storage-1 --from 100 --to 120
    """
    with Home.read_only(home) as opened:
        origin, reports = _replayed(opened, first, last, quiet=as_json)
    differing = next((report for report in reports if report.differences), None)
    rows = [_row(report) for report in reports]
    if as_json:
        found = None if differing is None else {"height": differing.height, "field": differing.differences[0].what}
        show({"from": first, "origin": origin, "heights": rows, "difference": found}, as_json=True)
    else:
        click.echo(f"began at {origin}")
        show_rows(rows, _COLUMNS, as_json=False)
    if differing is not None:
        first_difference = differing.differences[0]
        say(f"DIFFERS  height {differing.height}: {first_difference.what}: {_said(first_difference)}", err=True)
        sys.exit(DataError.exit_code)


def _replayed(home: Home, first: int, last: int | None, *, quiet: bool) -> tuple[str, list[HeightReport]]:
    console = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("executing blocks again", total=None)
        replay = RangeReplay(home, first, last, lambda done, total: bar.update(task, completed=done, total=total))
        reports = list(replay.heights())
    return replay.origin, reports


def _row(report: HeightReport) -> dict[str, Any]:
    names = ("height", "actions", "applied", "rejected", "events", "state_root")
    return {
        **{name: getattr(report, name) for name in names},
        "ms": round(report.seconds * 1000, 2),
        "differences": [attrs.asdict(found) for found in report.differences],
    }


def _said(difference: Any) -> str:
    if difference.stored is None and isinstance(difference.executed, str):
        return difference.executed
    return f"stored {difference.stored}, execution gives {difference.executed}"
