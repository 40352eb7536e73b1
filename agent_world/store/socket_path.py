"""The control socket's address, which the system limits to 107 bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agent_world.errors import UsageError

SOCKET_PATH_BYTES_MAX: Final = 107
"""sun_path less its final zero; source: unix(7)."""


def socket_address(path: Path) -> str:
    """The shorter of the absolute path and the one from here; raises UsageError if both are too long."""
    shortest = min(str(path.absolute()), os.path.relpath(path), key=len)
    if len(os.fsencode(shortest)) > SOCKET_PATH_BYTES_MAX:
        raise UsageError(
            f"the path of the control socket has more than {SOCKET_PATH_BYTES_MAX} bytes: {path};"
            " use a home with a shorter path, or change to a folder near it first"
        )
    return shortest
