"""agent-world blob export."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.blob_get import write_new
from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.duration import DURATION
from agent_world.cli.output import json_option, show
from agent_world.cli.progress import bytes_progress, counted


@click.command("export")
@click.argument("cid")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write; it must not exist.")  # fmt: skip  # noqa: E501
@click.option("--local-only", is_flag=True, help="Leave out what the node does not have, rather than fetch it.")
@click.option("--unixfs", is_flag=True, help="Write a file as IPFS tools read it, under its ipfs_cid.")
@click.option("--timeout", type=DURATION, default="30s", show_default=True, help="Longest wait for what is not there.")
@home_option
@json_option
def command(cid: str, output: Path, local_only: bool, unixfs: bool, timeout: int, home: Path, as_json: bool) -> None:
    """Write CID with all that it links to as an archive (CAR, version 1), which other IPFS tools read.

    The same content gives the same bytes. With --unixfs the archive holds the nodes by which "ipfs get" and the like
    read a file ("blob stat" shows their root as ipfs_cid). "blob import" takes both kinds.

    \b
    Example:
      agent-world blob export bafyr4i... -o backup.car --home swarm/storage-1
    """
    query = {
        "local_only": "1" if local_only else "0",
        "timeout_ms": min(timeout, 50_000),
        "unixfs": "1" if unixfs else "0",
    }
    with (
        NodeClient(home) as node,
        node.get_stream(f"/car/{cid}", **query) as (parts, size),
        bytes_progress(f"writing {output.name}", size, quiet=as_json) as bar,
    ):
        written = write_new(output, counted(parts, bar))
    show({"cid": cid, "file": str(output), "size_bytes": written}, as_json=as_json)
