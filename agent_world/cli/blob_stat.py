"""agent-world blob stat."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.content_name import content_cid
from agent_world.cli.output import json_option, show


@click.command("stat")
@click.argument("content")
@home_option
@json_option
def command(content: str, home: Path, as_json: bool) -> None:
    """Show size and place of CONTENT (64 hex digits or a CID), which the node stores; it is not fetched.

    For the CID of a file manifest the size of the file is shown too. ipfs_cid is the
    name by which other IPFS tools read the content as a file.
    """
    cid = content_cid(content)
    with NodeClient(home) as node:
        show(node.get(f"/blobs/{cid}/stat"), as_json=as_json)
