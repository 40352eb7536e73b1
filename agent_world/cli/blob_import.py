"""agent-world blob import."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.file_parts import file_parts
from agent_world.cli.output import json_option, show


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--pin", metavar="NAME", help="Name of the pin, for an archive of one root; its CID without it.")
@home_option
@json_option
def command(file: Path, pin: str | None, home: Path, as_json: bool) -> None:
    """Store the blocks of the archive FILE (CAR, version 1; - for standard input), and pin its roots.

    Every block is compared with its CID. CIDs have BLAKE3-256 and the codec raw or dag-cbor; an archive with others is
    refused, naming the first. "missing" counts linked blocks that neither the archive nor the node has.

    \b
    Example:
      agent-world blob import backup.car --pin backup --home swarm/storage-2
    """
    with NodeClient(home) as node, file_parts(file, quiet=as_json) as parts:
        show(node.post_stream("/car", parts, pin=pin), as_json=as_json)
