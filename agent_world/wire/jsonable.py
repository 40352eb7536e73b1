"""Values of the protocol as JSON, which is for people only (D1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_world.wire.cid import Cid


def jsonable(value: Any) -> Any:
    """Bytes (hashes, keys, signatures) as hex, links as text, tuples as lists."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Cid):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value
