"""The files of a node's index, asked for in pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent_world.cli.client import NodeClient
from agent_world.cli.printable import say


def all_files(node: NodeClient, prefix: str) -> Iterator[dict[str, Any]]:
    """Every file whose path begins with ``prefix``, ascending; files that come and go meanwhile may be missed."""
    after = ""
    while True:
        found = node.get("/fs/files", prefix=prefix, after=after)
        yield from found["files"]
        if not found["more"]:
            return
        after = found["files"][-1]["path"]


def tell_if_local(written: Mapping[str, Any]) -> None:
    """Say on standard error that no other node gets a file that was written, so that nobody waits for it."""
    if written.get("is_local"):
        say(
            f"{written['path']} is this node's own: it does not hold the writer's lease (lease acquire), so no other"
            " node gets the file",
            err=True,
        )


def tell_if_any_local(own: Sequence[str]) -> None:
    """The same of many files; ``own`` are the paths of those that no other node gets."""
    if own:
        say(
            f"{len(own)} files, such as {own[0]}, are this node's own: it does not hold the writer's lease (lease"
            " acquire), so no other node gets them",
            err=True,
        )
