"""Which guard a home has: whose it is, and where the files of a retired key go (docs/guard.md).

The world database notes the key for which guard.db and guard.log were made, so that files that were lost are told
from files that were never made.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agent_world.errors import HomeError
from agent_world.store.durable import fsync_directory, set_aside
from agent_world.store.home import Home
from agent_world.wire.ids import PublicKey

_DATABASE_SUFFIXES: Final = ("", "-wal", "-shm")


def made_for(home: Home) -> PublicKey | None:
    """The key whose guard was last in use here; None if there was none yet."""
    rows = home.database.query("SELECT validator_key FROM guard_made")
    return PublicKey(rows[0][0]) if rows else None


def note_made(home: Home, key: PublicKey) -> None:
    """From now on a missing guard of ``key`` is a lost one; durable on return."""
    if made_for(home) != key:
        with home.database.transaction():
            home.database.execute("INSERT OR REPLACE INTO guard_made VALUES (1, ?)", (key,))


def retire_guard(home: Home, height: int) -> None:
    """Move the guard's files away as ``*.retired-<height>``; they must be closed. Raises HomeError."""
    files = home.files
    moved = {files.guard_log: retired_name(files.guard_log, height)}
    for end in _DATABASE_SUFFIXES:
        path, retired = files.guard_db, retired_name(files.guard_db, height)
        moved[path.with_name(path.name + end)] = retired.with_name(retired.name + end)
    try:
        for path, retired in moved.items():
            if retired.exists():
                set_aside(path)  # half of a new guard, made before a crash: nothing was signed with it
            elif path.exists():
                path.replace(retired)
        fsync_directory(files.path)
    except OSError as error:
        raise HomeError(f"the vote guard in {files.path} cannot be moved away: {error}") from error


def exchange_key(home: Home, height: int) -> None:
    """Put validator.next.key in the place of validator.key, which stays as ``validator.key.retired-<height>``.

    There is a validator.key at every moment. Raises HomeError.
    """
    files = home.files
    retired = retired_name(files.validator_key, height)
    try:
        if not retired.exists():
            os.link(files.validator_key, retired)
        files.validator_next_key.replace(files.validator_key)
        fsync_directory(files.path)
    except OSError as error:
        raise HomeError(f"the validator key in {files.path} cannot be exchanged: {error}") from error


def retired_name(path: Path, height: int) -> Path:
    """Where a file goes whose key the validator set no longer names after ``height``."""
    return path.with_name(f"{path.name}.retired-{height}")
