"""Take chain, state, blobs and peers out of a home, and leave what it is: keys, genesis, settings.

One rename makes it a home at height 0; what is removed before or after it is not seen by anybody. So a crash at any
step leaves the old home or the new one, at worst with files that nobody reads; the next opening removes them.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Final

import attrs

from agent_world.errors import DatabaseDamaged, HomeError
from agent_world.store import schema
from agent_world.store.database import Database, Row
from agent_world.store.durable import RESET_PREFIX, FaultHook, fsync_directory, no_fault
from agent_world.store.home import HomeLayout
from agent_world.wire.ids import Hash32

RESET_STEPS: Final = ("made", "folded", "moved", "blobs_aside", "guard_aside", "removed")
"""What the fault hook is called with, in order."""


@attrs.frozen(slots=True)
class Reset:
    """What was removed; the guard's files count only if they were to go."""

    files: int
    size_bytes: int


def reset_home(files: HomeLayout, genesis_hash: Hash32, *, keep_guard: bool, fault: FaultHook = no_fault) -> Reset:
    """Reset a home that the caller has locked (``home.locked_home``); raises HomeError for what the disk refuses."""
    try:
        return _reset(files, genesis_hash, keep_guard, fault)
    except OSError as error:
        raise HomeError(f"{files.path} could not be reset: {error}; check space and rights, then do it again") from None


def _reset(files: HomeLayout, genesis_hash: Hash32, keep_guard: bool, fault: FaultHook) -> Reset:
    going = [*_database_files(files.world_db), files.blobs, files.quarantine]
    guard = [] if keep_guard else [*_database_files(files.guard_db), files.guard_log]
    removed = [_size(path) for path in (*going, *guard, *files.path.glob(f"{RESET_PREFIX}*"))]
    aside = Path(tempfile.mkdtemp(prefix=RESET_PREFIX, dir=files.path))
    fresh = aside / files.world_db.name
    made_for = _guard_key(files.world_db) if keep_guard else []
    with contextlib.closing(Database.create(fresh, schema.WORLD, genesis_hash)) as database, database.transaction():
        for key in made_for:
            database.execute("INSERT INTO guard_made VALUES (1, ?)", key)
    fsync_directory(aside)
    fault("made")
    _fold_log(files.world_db, aside)
    fault("folded")
    fresh.replace(files.world_db)
    fsync_directory(files.path)
    fault("moved")
    for folder in (files.blobs, files.quarantine):
        if folder.exists():
            folder.replace(aside / folder.name)
        folder.mkdir()
    fault("blobs_aside")
    # After the chain: a guard that is gone beside blocks would keep the validator from ever starting.
    for path in guard:
        if path.exists():
            path.replace(aside / path.name)
    fsync_directory(files.path)
    fault("guard_aside")
    files.control_socket.unlink(missing_ok=True)
    for left in files.path.glob(f"{RESET_PREFIX}*"):
        shutil.rmtree(left)
    fsync_directory(files.path)
    fault("removed")
    return Reset(sum(count for count, _ in removed), sum(size for _, size in removed))


def _guard_key(path: Path) -> list[Row]:
    """Whose guard this home has, so that one that is lost later is not taken for one that was never made."""
    try:
        with contextlib.closing(Database.open(path, schema.WORLD)) as database:
            return database.query("SELECT validator_key FROM guard_made")
    except DatabaseDamaged:
        return []  # the next start with the guard's files notes it again


def _fold_log(path: Path, aside: Path) -> None:
    """Leave no write-ahead log beside the database: it must not be applied to the new one."""
    with contextlib.suppress(DatabaseDamaged):  # then its log cannot be folded in, and is of no use without it
        Database.open(path, schema.WORLD).close()
    for suffix in ("-wal", "-shm"):
        log = path.with_name(path.name + suffix)
        if log.exists():
            log.replace(aside / log.name)
    fsync_directory(path.parent)


def _database_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def _size(path: Path) -> tuple[int, int]:
    """Files and bytes of a file or a folder; none if there is nothing."""
    found = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return len(found), sum(file.stat().st_size for file in found)
