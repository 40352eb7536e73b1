"""The files of a node's index, asked for in pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent_world.cli.client import NodeClient


def all_files(node: NodeClient, prefix: str) -> Iterator[dict[str, Any]]:
    """Every file whose path begins with ``prefix``, ascending; files that come and go meanwhile may be missed."""
    after = ""
    while True:
        found = node.get("/fs/files", prefix=prefix, after=after)
        yield from found["files"]
        if not found["more"]:
            return
        after = found["files"][-1]["path"]
