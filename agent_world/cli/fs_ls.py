"""agent-world fs ls."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.fs_files import all_files
from agent_world.cli.output import json_option, show_rows
from agent_world.cli.printable import say

_COLUMNS: Final = ("path", "size_bytes", "content_hash")


@click.command("ls")
@click.argument("prefix", default="")
@click.option("--long", "is_long", is_flag=True, help="With size and content hash.")
@home_option
@json_option
def command(prefix: str, is_long: bool, home: Path, as_json: bool) -> None:
    """List the files of the node's index whose paths begin with PREFIX, sorted by their bytes.

    PREFIX is text and no folder: "a" finds "ab" too.
    """
    with NodeClient(home) as node:
        files = list(all_files(node, prefix))
    if is_long or as_json:
        show_rows(files, _COLUMNS, as_json=as_json)
    else:
        for file in files:
            say(file["path"])
