"""agent-world fs write."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.file_parts import file_parts
from agent_world.cli.fs_files import tell_if_local
from agent_world.cli.output import json_option, show
from agent_world.errors import UsageError


@click.command("write")
@click.argument("path")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--if-match", metavar="HASH", help="Only if this content hash (64 hex digits) is there now.")
@click.option("--if-absent", is_flag=True, help="Only if nothing is there.")
@home_option
@json_option
def command(path: str, file: Path, if_match: str | None, if_absent: bool, home: Path, as_json: bool) -> None:
    """Put FILE (- for standard input), of any size, at PATH of the node's file index.

    On the node that holds the lease the file goes into the world's record log, and so to every node. On any other it is
    that node's own, and a path that the log holds is refused.

    If a condition does not hold, nothing is written, the exit code is 69, and the error says what is there.

    \b
    Example:
      agent-world fs write docs/readme.txt README.md --home swarm/storage-1
      agent-world fs write counter - --if-match 5f3a... --home swarm/storage-1
    """
    if if_match is not None and if_absent:
        raise UsageError("--if-match and --if-absent exclude each other")
    query = {"path": path, "if_match": if_match, "if_absent": "1" if if_absent else None}
    with NodeClient(home) as node, file_parts(file, quiet=as_json) as parts:
        written = node.post_stream("/fs/file", parts, **query)
    show(written, as_json=as_json)
    tell_if_local(written)
