"""Turns of several processes, or connections, at writing to the databases of one directory.

SQLite lets whoever finds a database locked look again every 100 ms at most, and whoever asks at the right moment has
it. So a process that writes one transaction after the other could keep all others out until their patience ends. Here
whoever begins a transaction asks for its turn first and gives it back once it has begun: while one waits for the
database, nobody else begins.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent_world.errors import HomeError, LocalError
from agent_world.store.disk_faults import not_readable

WAIT_S: Final = 5.0
"""Longest wait for a turn; a turn takes as long as one transaction of somebody else."""
_LOOK_S: Final = 0.002
"""Between two looks. Short, so that several that wait are served by chance, and not who writes most."""


class WritingTurns:
    """A lock of the directory itself, which needs no file of its own and ends with the process. Close it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise not_readable(f"{directory} cannot be opened", error) from None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """To begin a transaction in, and no more. Raises HomeError if there is none within WAIT_S."""
        if self._descriptor < 0:
            raise LocalError(f"a write below {self._directory} after closing")
        deadline = time.monotonic() + WAIT_S
        while not self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
            if time.monotonic() > deadline:
                raise HomeError(f"{self._directory} is in use: other programs write to it all the time; try again")
            time.sleep(_LOOK_S)
        try:
            yield
        finally:
            self._locked(fcntl.LOCK_UN)

    def _locked(self, operation: int) -> bool:
        try:
            fcntl.flock(self._descriptor, operation)
        except BlockingIOError:
            return False
        except OSError:
            # Some file systems lock no directories. Writers are kept apart by SQLite all the same, if not in turns.
            return True
        return True

    def close(self) -> None:
        """Let go of the directory; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
