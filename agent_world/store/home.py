"""A node's home directory: what lies where, who may open it, and what makes it unusable.

Opening refuses, with a HomeError that says what is wrong and what to do, rather than repair or overwrite anything.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs

from agent_world.crypto.keys import KeyPair
from agent_world.errors import HomeError, UsageError
from agent_world.store import keyfile, schema
from agent_world.store.database import Database
from agent_world.store.disk_faults import not_readable, not_writable
from agent_world.store.durable import RESET_PREFIX, TEMPORARY_PREFIX, fsync_directory, write_new_file
from agent_world.wire.ids import Hash32
from agent_world.wire.limits import MIB

SETTINGS_BYTES_MAX: Final = MIB
"""Largest node.toml or genesis.toml that is read; 256 validators take about 40 KiB."""


@attrs.frozen(slots=True)
class HomeLayout:
    """Where everything lies inside a home; exists without the home being opened."""

    path: Path

    @property
    def node_toml(self) -> Path:
        """The node's own settings."""
        return self.path / "node.toml"

    @property
    def genesis_toml(self) -> Path:
        """The world's genesis, the same text on every node."""
        return self.path / "genesis.toml"

    @property
    def node_key(self) -> Path:
        """Key of the network identity, mode 0600."""
        return self.path / "node.key"

    @property
    def validator_key(self) -> Path:
        """Key of the votes, mode 0600; only validators have it."""
        return self.path / "validator.key"

    @property
    def validator_next_key(self) -> Path:
        """Key that takes over once a validator set names it, mode 0600; made by ``validator rotate``."""
        return self.path / "validator.next.key"

    @property
    def world_db(self) -> Path:
        """Blobs, blocks, content, peers."""
        return self.path / "world.db"

    @property
    def guard_db(self) -> Path:
        """What this validator has signed."""
        return self.path / "guard.db"

    @property
    def guard_log(self) -> Path:
        """The guard's append-only twin."""
        return self.path / "guard.log"

    @property
    def blobs(self) -> Path:
        """Blobs too large for the database: ``ab/<64 hex digits>``."""
        return self.path / "blobs"

    @property
    def quarantine(self) -> Path:
        """Bytes that did not hash to their name, kept for inspection."""
        return self.path / "quarantine"

    @property
    def control_socket(self) -> Path:
        """Socket of the running node."""
        return self.path / "control.sock"

    @property
    def lock(self) -> Path:
        """Held by the one process that runs this home."""
        return self.path / "lock"


class Home:
    """An open home: its layout and its world database. Use as a context manager or call ``close``."""

    def __init__(self, files: HomeLayout, database: Database, lock: int | None) -> None:
        self.files = files
        self.database = database
        self.writable = lock is not None
        self.is_shared = False
        """Other processes write to it too."""
        self.genesis_hash = database.genesis_hash
        self._lock = lock

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        genesis_hash: Hash32,
        genesis_toml: str,
        node_toml: str,
        node_key: KeyPair,
        validator_key: KeyPair | None = None,
    ) -> None:
        """Make a new home, whole or not at all; ``path`` must be absent or an empty directory (HomeError)."""
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise HomeError(f"{path} exists already; it is not overwritten: choose another directory")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{path.name}-", dir=path.parent))
        except OSError as error:
            raise not_writable(f"{path} cannot be made", error) from None
        try:
            files = HomeLayout(building)
            write_new_file(files.genesis_toml, genesis_toml.encode())
            write_new_file(files.node_toml, node_toml.encode())
            keyfile.write(files.node_key, node_key)
            if validator_key is not None:
                keyfile.write(files.validator_key, validator_key)
            files.blobs.mkdir()
            files.quarantine.mkdir()
            Database.create(files.world_db, schema.WORLD, genesis_hash).close()
            fsync_directory(building)
            # The one step that makes it a home: a crash before leaves nothing under its name.
            building.replace(path)
        except BaseException as error:
            shutil.rmtree(building, ignore_errors=True)
            if isinstance(error, OSError):
                raise not_writable(f"{path} cannot be made", error) from error
            raise
        fsync_directory(path.parent)

    @classmethod
    def open(cls, path: Path, genesis_hash: Hash32) -> Home:
        """Open for running a node of the world of ``genesis_hash``; holds the lock until ``close``.

        Raises HomeError for what is not a home, is half made or damaged, belongs to another world, has a newer
        schema, or is run by another process.
        """
        files = _require_home(path)
        lock = _acquire(files.lock)
        for left in path.glob(f"{RESET_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        try:
            database = Database.open(files.world_db, schema.WORLD, genesis_hash)
        except BaseException:
            os.close(lock)
            raise
        return cls(files, database, lock)

    @classmethod
    def shared(cls, path: Path, genesis_hash: Hash32 | None = None) -> Home:
        """Open its store for reading and writing beside other processes that do the same; no node runs meanwhile.

        Each process, and each thread, has a Home of its own. Raises HomeError as ``open``.
        """
        files = _require_home(path)
        lock = _acquire(files.lock, fcntl.LOCK_SH)
        try:
            database = Database.open(files.world_db, schema.WORLD, genesis_hash)
        except BaseException:
            os.close(lock)
            raise
        home = cls(files, database, lock)
        home.is_shared = True
        return home

    @classmethod
    def at_rest(cls, path: Path) -> Home:
        """Open for looking while no process runs it, also after a crash and on a disk that cannot be written.

        Nothing stored is changed and no file is added; after a crash SQLite may renew its index ``world.db-shm``.
        Until ``close`` no node starts on it. Raises HomeError as ``open``, also if a process runs it.
        """
        files = _require_home(path)
        lock = _share(files.lock)
        try:
            database = Database.open(files.world_db, schema.WORLD, None, read_only=True, at_rest=True)
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        home = cls(files, database, None)
        home._lock = lock
        return home

    @classmethod
    def read_only(cls, path: Path, genesis_hash: Hash32 | None = None) -> Home:
        """Open for looking (verify, inspect), also while a node runs on it; takes no lock, changes nothing stored.

        SQLite may make its ``world.db-wal`` and ``-shm`` beside the database, which the next node takes over.

        ``genesis_hash`` None accepts any world; see the attribute ``genesis_hash``. Raises HomeError as ``open``.
        """
        files = _require_home(path)
        return cls(files, Database.open(files.world_db, schema.WORLD, genesis_hash, read_only=True), None)

    def node_key(self) -> KeyPair:
        """The network identity; raises HomeError or UsageError as ``keyfile.read``."""
        return keyfile.read(self.files.node_key)

    def validator_key(self) -> KeyPair | None:
        """The voting key, None if this node is no validator."""
        return keyfile.read(self.files.validator_key) if self.files.validator_key.exists() else None

    def validator_next_key(self) -> KeyPair | None:
        """The key that is to take over; None if no rotation is under way."""
        files = self.files
        return keyfile.read(files.validator_next_key) if files.validator_next_key.exists() else None

    def node_toml(self) -> str:
        """Text of node.toml."""
        return _read_text(self.files.node_toml)

    def genesis_toml(self) -> str:
        """Text of genesis.toml."""
        return _read_text(self.files.genesis_toml)

    def close(self) -> None:
        """Close the database, then let go of the lock; may be called twice."""
        self.database.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_home(path: Path) -> HomeLayout:
    """The layout of ``path`` if everything a home must have is there."""
    files = HomeLayout(path)
    if not path.is_dir():
        raise HomeError(f"there is no home at {path}; make one with: agent-world init")
    needed = (files.genesis_toml, files.node_toml, files.node_key, files.world_db)
    missing = [file.name for file in needed if not file.is_file()]
    if len(missing) == len(needed):
        raise HomeError(f"{path} is not a home of agent-world; make one in another directory with: agent-world init")
    if missing:
        raise HomeError(
            f"{path} is half made: {', '.join(missing)} missing; restore it from a copy, or make a new home"
        )
    return files


@contextmanager
def locked_home(path: Path) -> Iterator[HomeLayout]:
    """The layout of a home that no process runs, held so; its database is not opened. Raises HomeError."""
    files = HomeLayout(path)
    if not files.genesis_toml.is_file() or not files.node_key.is_file():
        raise HomeError(f"{path} is not a home of agent-world; nothing was changed")
    lock = _acquire(files.lock)
    try:
        yield files
    finally:
        os.close(lock)


def _share(path: Path) -> int | None:
    """A lock that keeps nodes out and lets other readers in; None where no node ever ran. Writes nothing."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise not_readable(f"{path} cannot be opened", error) from None
    _flock(lock, fcntl.LOCK_SH, path)
    return lock


def _flock(lock: int, kind: int, path: Path) -> None:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise HomeError(f"{path.parent} is in use by another process ({holder}); stop it first") from None


def _acquire(path: Path, kind: int = fcntl.LOCK_EX) -> int:
    """A lock that the system frees when the process ends, however it ends; returns its descriptor."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        what = f"a node needs to write to its home, which node inspect does not, and {path} cannot be opened"
        raise not_writable(what, error) from None
    _flock(lock, kind, path)
    if kind == fcntl.LOCK_EX:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"pid {os.getpid()}\n".encode(), 0)
    return lock


def _read_text(path: Path) -> str:
    """A settings file; raises UsageError for one that is not readable text of a sensible size."""
    try:
        with path.open("rb") as file:
            data = file.read(SETTINGS_BYTES_MAX + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}") from None
    if len(data) > SETTINGS_BYTES_MAX:
        raise UsageError(f"{path} is larger than {SETTINGS_BYTES_MAX} bytes: not a settings file")
    return text
