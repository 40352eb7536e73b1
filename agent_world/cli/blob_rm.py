"""agent-world blob rm."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.wire.cid import Cid, parse_content_hash


@click.command("rm")
@click.argument("content")
@home_option
@json_option
def command(content: str, home: Path, as_json: bool) -> None:
    """Remove the one blob CONTENT (64 hex digits or a CID) now, unless something reaches it, which is then named.

    To remove a file with its chunks, unpin it and run `blob gc`.
    """
    is_cid = content.startswith("b") and len(content) != 64
    digest = Cid.parse(content).digest if is_cid else parse_content_hash(content)
    with NodeClient(home) as node:
        show(node.post_json(f"/blobs/{digest.hex()}/remove", {}), as_json=as_json)
