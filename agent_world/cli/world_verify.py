"""agent-world world verify."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import attrs
import click
from rich.console import Console
from rich.progress import Progress

from agent_world.cli.output import json_option, show
from agent_world.cli.printable import say
from agent_world.errors import DataError
from agent_world.node.verify import Report, verify_home
from agent_world.wire.cid import Cid


@click.command("verify")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="Home to verify.")
@json_option
def command(home: Path, as_json: bool) -> None:
    """Execute the whole chain in HOME again from genesis; check every certificate, root, row and blob.

    Needs no running node and trusts nothing but genesis.toml. Exits with 65 if anything is wrong.
    """
    started = time.monotonic()
    report = _with_progress(home, quiet=as_json)
    seconds = time.monotonic() - started
    if as_json:
        # Links stay whole: they are shown as text, not as the parts they are made of.
        shown = attrs.asdict(report, filter=lambda _field, value: not isinstance(value, Cid))
        links = {"state_root": report.state_root, "watched_root": report.watched_root}
        show({**shown, **links, "ok": report.ok, "seconds": round(seconds, 3)}, as_json=True)
    else:
        _print(home, report, seconds)
    if not report.ok:
        sys.exit(DataError.exit_code)


def _with_progress(home: Path, *, quiet: bool) -> Report:
    console = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("executing blocks again", total=None)
        return verify_home(home, lambda done, total: bar.update(task, completed=done, total=total))


def _print(home: Path, report: Report, seconds: float) -> None:
    click.echo(f"{home}: world {report.world_id}, genesis {report.genesis_hash.hex()[:16]}")
    click.echo(f"  heights executed   {report.height} of {report.stored_height}")
    click.echo(f"  state root         {report.state_root}")
    click.echo(f"  actions            {report.actions}")
    click.echo(f"  blobs checked      {report.blobs_checked}; object content not stored here: {report.content_missing}")
    click.echo(f"  time               {seconds:.2f} s")
    for problem in report.problems:
        place = "no height" if problem.height is None else f"height {problem.height}"
        say(f"  WRONG  {place}: {problem.what}: {problem.detail}", err=True)
    more = report.problem_count - len(report.problems)
    if more:
        click.echo(f"  and {more} more", err=True)
    click.echo("everything checks out" if report.ok else f"{report.problem_count} problems found")
