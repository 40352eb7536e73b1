"""agent-world blob rm."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.content_name import content_cid
from agent_world.cli.output import json_option, show


@click.command("rm")
@click.argument("content")
@home_option
@json_option
def command(content: str, home: Path, as_json: bool) -> None:
    """Remove the one blob CONTENT (64 hex digits or a CID) now, unless something reaches it, which is then named.

    To remove a file with its chunks, unpin it and run `blob gc`.
    """
    digest = content_cid(content).digest.hex()
    with NodeClient(home) as node:
        show(node.post_json(f"/blobs/{digest}/remove", {}), as_json=as_json)
