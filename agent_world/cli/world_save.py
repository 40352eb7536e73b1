"""agent-world world save."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from agent_world.cli.output import json_option, show
from agent_world.node.saving import save_home
from agent_world.wire import record


@click.command("save")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="Home to save from.")
@json_option
def command(directory: Path, home: Path, as_json: bool) -> None:
    """Save the world at HOME's committed height into DIRECTORY: state and events, as JSON and as content of DistFS.

    A node may run on HOME meanwhile. What DIRECTORY held of an earlier save is replaced once all of this is written
    and reads back equal.

    \b
    Example:
      agent-world world save backup --home swarm/observer-1
      agent-world world load backup
    """
    console = Console(stderr=True, quiet=as_json or not sys.stderr.isatty())
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("reading events", total=None)
        head, content_bytes = save_home(
            home, directory, lambda done, total: bar.update(task, completed=done, total=total)
        )
    show({**record.unstructure(head), "content_bytes": content_bytes, "directory": str(directory)}, as_json=as_json)
