"""Answers about a home whose node may run or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent_world.cli.client import NodeClient
from agent_world.errors import Unavailable
from agent_world.node.stopped import StoppedHome
from agent_world.wire.jsonable import jsonable


def ask_or_read(home: Path, path: str, read: Callable[[StoppedHome], object]) -> Any:
    """What the node that runs there answers at ``path``, or ``read`` from the home if none does; both as JSON values.

    Raises as ``NodeClient.get`` and ``StoppedHome``.
    """
    try:
        with NodeClient(home) as node:
            return node.get(path)
    except Unavailable:
        with StoppedHome(home) as stopped:
            return jsonable(read(stopped))
