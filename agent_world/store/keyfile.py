"""Key files: written once with mode 0600, never replaced, read only while nobody else can read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from agent_world.crypto.keys import KeyPair
from agent_world.errors import HomeError, UsageError
from agent_world.store.disk_faults import not_readable, not_writable
from agent_world.store.durable import write_new_file

KEY_FILE_BYTES_MAX: Final = 1024
"""A key file has about 95 bytes; more is something else."""


def write(path: Path, key: KeyPair) -> None:
    """Store ``key`` under a name that is still free; raises HomeError otherwise (a lost key is lost for good)."""
    try:
        write_new_file(path, key.to_text().encode(), mode=0o600)
    except FileExistsError:
        raise HomeError(f"{path} exists already; a key file is never overwritten: move it away first") from None
    except (FileNotFoundError, NotADirectoryError):
        raise HomeError(f"{path} cannot be written: there is no such folder") from None
    except OSError as error:
        raise not_writable(f"{path} cannot be written", error) from None


def read(path: Path) -> KeyPair:
    """Raises HomeError if it is missing or others may read it, UsageError if it is not a key file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise HomeError(f"{path} cannot be opened: there is no such file") from None
    except OSError as error:
        raise not_readable(f"{path} cannot be opened", error) from None
    with os.fdopen(descriptor, "rb") as file:
        # Mode of the open file, not of the name: the name could be exchanged in between.
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise HomeError(f"{path} has mode {mode:04o}, so others can read the key; run: chmod 600 {path}")
        data = file.read(KEY_FILE_BYTES_MAX + 1)
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if len(data) > KEY_FILE_BYTES_MAX:
        raise UsageError(f"{path} is not a key file of agent-world: it is too large")
    return KeyPair.from_text(text, str(path))
