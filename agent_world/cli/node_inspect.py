"""agent-world node inspect."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from agent_world.cli.client import CONTROL_SOCKET, home_option
from agent_world.cli.node_run import run_until_stopped
from agent_world.cli.output import json_option, show
from agent_world.errors import DataError
from agent_world.node.control import serve_control
from agent_world.node.stopped import StoppedHome
from agent_world.node.stopped_views import StoppedValidator, StoppedViews, refused_routes
from agent_world.store.socket_path import outside_socket


@click.command("inspect")
@home_option
@click.option("--once", is_flag=True, help="Print a summary and exit: heights, roots, validators, guard, damage found.")
@json_option
def command(home: Path, once: bool, as_json: bool) -> None:
    """Look into a home whose node is stopped or has crashed, without a network and without changing anything.

    Until Ctrl-C it answers what only reads: node status, peer list, world head, block, state and events, validator
    list, epoch and changes, and lease status work as with a running node. No node starts on the home meanwhile.
    With --once the exit code is 65 if damage was found; world verify finds more, as it executes everything again.

    \b
    Example:
      agent-world node inspect --home swarm/storage-1 --once
      agent-world node inspect --home swarm/storage-1 &
      agent-world world state --home swarm/storage-1 clock --proof
    """
    with StoppedHome(home) as stopped:
        views = StoppedViews(stopped)
        if once:
            _summary(views.summary(), as_json=as_json)
            return
        is_writable = os.access(home, os.W_OK, effective_ids=True)
        socket = home / CONTROL_SOCKET if is_writable else outside_socket(home)
        shown = {"home": str(home), "height": stopped.height, "socket": str(socket)}
        if as_json:
            show(shown, as_json=True)
        else:
            click.echo(f"{home} at height {stopped.height}, for reading only; Ctrl-C ends it")
        sys.stdout.flush()
        serve = partial(serve_control, task_status=trio.TASK_STATUS_IGNORED)
        run_until_stopped(serve, views, StoppedValidator(stopped), socket, refused_routes())


def _summary(summary: dict[str, Any], *, as_json: bool) -> None:
    show(summary, as_json=as_json)
    if summary["damage"]:
        for damage in summary["damage"]:
            click.echo(f"DAMAGE  {damage}", err=True)
        sys.exit(DataError.exit_code)
