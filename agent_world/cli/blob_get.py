"""agent-world blob get."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.crypto.hashing import verify_blob
from agent_world.errors import UsageError
from agent_world.wire.cid import Cid, ContentHash, parse_content_hash


@click.command("get")
@click.argument("content")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; it must not exist. Standard output if not given.",
)
@home_option
@json_option
def command(content: str, output: Path | None, home: Path, as_json: bool) -> None:
    """Fetch CONTENT (64 hex digits or a CID) through the node; the bytes are hashed again here."""
    content_hash = _parse(content)
    with NodeClient(home) as node:
        data = verify_blob(node.get_bytes(f"/blobs/{content_hash.hex()}"), content_hash)
    if output is None:
        if as_json:
            show({"content_hash": content_hash, "size_bytes": len(data), "blob": data}, as_json=True)
        else:
            sys.stdout.buffer.write(data)
        return
    try:
        with output.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error}") from None
    show({"content_hash": content_hash, "size_bytes": len(data), "file": str(output)}, as_json=as_json)


def _parse(text: str) -> ContentHash:
    return (
        Cid.parse(text).digest
        if text.startswith("b") and len(text) > 50 and len(text) != 64
        else parse_content_hash(text)
    )
