"""Where control sockets are, and their address, which the system limits to 107 bytes."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final

from agent_world.crypto.hashing import hash32
from agent_world.errors import HomeError, UsageError

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


def outside_socket(home: Path) -> Path:
    """The control socket of a home that cannot hold one, such as on a disk that is mounted for reading only.

    It is named after the home's path, in a folder that is this user's alone. Raises HomeError if it is not.
    """
    folder = Path(tempfile.gettempdir()) / f"agent-world-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise HomeError(f"{folder} cannot be made for the control socket: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise HomeError(f"{folder} is not a folder of yours alone (0700); remove it")
    return folder / f"{hash32(os.fsencode(home.resolve())).hex()[:16]}.sock"


def answering_socket(inside: Path) -> Path:
    """The socket of a home: the one inside, unless only the one outside has somebody behind it."""
    folder = Path(tempfile.gettempdir()) / f"agent-world-{os.geteuid()}"
    if not folder.exists() or _answers(inside):
        return inside
    outside = outside_socket(inside.parent)
    return outside if _answers(outside) else inside


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(socket_address(path))
        except (OSError, UsageError):
            return False
    return True
