"""Changing a file by what is in it: read, change, write on condition, again after a conflict."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

import attrs

from agent_world.errors import FileConflict
from agent_world.store.file_index import Expect, FileIndex
from agent_world.wire.file_index import FileMetadata

Change = Callable[[bytes | None], bytes]
"""From what is in the file, None if there is none, to what is to be in it. May be called more than once."""


@attrs.frozen(slots=True, kw_only=True)
class Backoff:
    """Pauses between tries: doubling, with jitter, so that writers of one file come apart."""

    first_s: float = 0.001
    longest_s: float = 0.25
    tries: int = 50


DEFAULT: Final = Backoff()


def update_file(
    index: FileIndex,
    path: str,
    change: Change,
    sleep: Callable[[float], None],
    rng: Random,
    backoff: Backoff = DEFAULT,
) -> tuple[FileMetadata, int]:
    """Put ``change`` of its content there; what was written, and how many conflicts there were before.

    Raises FileConflict after the last try, and as ``FileIndex.read_file`` and ``write_file_if_match``.
    """
    conflicts = 0
    while True:
        found = index.stat_file(path)
        data = None if found is None else index.read_file(path)
        expected = Expect.NOTHING_THERE if found is None else found.content_hash
        try:
            return index.write_file_if_match(path, expected, change(data)), conflicts
        except FileConflict:
            conflicts += 1
            if conflicts >= backoff.tries:
                raise
        sleep(rng.random() * min(backoff.longest_s, backoff.first_s * 2 ** min(conflicts, 32)))
