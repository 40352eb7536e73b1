"""What the disk refuses, as our own errors, and which of it lasts: so that a node stays up and says what is wrong.

A full disk, a file system that the system has switched to read-only, lost rights and a broken device are faults of the
machine. They may pass, and what is stored is sound: so they are told apart from damage.
"""

from __future__ import annotations

import errno
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from agent_world.errors import DiskReason, StoreFault, StoreNotReadable, StoreNotWritable

F = TypeVar("F", bound=StoreFault)

_REASONS: Final = {
    errno.ENOSPC: DiskReason.FULL,
    errno.EDQUOT: DiskReason.FULL,
    errno.EFBIG: DiskReason.FULL,
    errno.EROFS: DiskReason.READ_ONLY,
    errno.EACCES: DiskReason.DENIED,
    errno.EPERM: DiskReason.DENIED,
}
"""Any other number of the system is a broken device to us."""
_ADVICE: Final = {
    DiskReason.FULL: "free space on that disk; nothing was lost",
    DiskReason.READ_ONLY: "it cannot be written by anybody: mount the file system for writing, after a look at the"
    " system's log, since a failing disk is switched to read-only",
    DiskReason.DENIED: "the user that runs agent-world has not the rights; give them back with chown or chmod",
    DiskReason.BROKEN: "the disk reports an error: look at the system's log, and copy the home to another disk",
}
_SQLITE_WRITES: Final = {
    sqlite3.SQLITE_FULL: DiskReason.FULL,
    sqlite3.SQLITE_READONLY: DiskReason.READ_ONLY,
    sqlite3.SQLITE_PERM: DiskReason.DENIED,
}
"""SQLite's primary codes for what only a write can meet."""
_SQLITE_READS: Final = frozenset(
    {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_FSTAT}
)
"""Extended codes of SQLITE_IOERR in which nothing was to be written."""


class Doing(StrEnum):
    """What the disk refused."""

    READ = "read"
    WRITE = "write"


@attrs.frozen(slots=True, kw_only=True)
class Fault:
    """One thing that does not work at present."""

    place: str
    """``database`` or ``blobs``."""
    doing: Doing
    reason: DiskReason
    message: str
    since_ms: int
    times: int
    """Refusals since then."""


class DiskFaults:
    """What the disk of one home refuses at present: one entry for each place and way, so at most four."""

    def __init__(self) -> None:
        self.wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
        self._present: dict[tuple[str, Doing], Fault] = {}
        self.are_there = False
        """Whether anything is ``present``."""
        self._counters: Counter[str] = Counter()

    def noted(self, place: str, error: F) -> F:
        """The error itself, remembered until ``worked``."""
        doing = Doing.READ if isinstance(error, StoreNotReadable) else Doing.WRITE
        before = self._present.get((place, doing))
        self._present[place, doing] = Fault(
            place=place,
            doing=doing,
            reason=error.reason,
            message=str(error),
            since_ms=self.wall_ms() if before is None else before.since_ms,
            times=1 if before is None else before.times + 1,
        )
        self.are_there = True
        self._counters[f"fault.{place}.{doing}.{error.reason}"] += 1
        return error

    def worked(self, place: str, doing: Doing) -> None:
        """It works again, or still."""
        if self.are_there and self._present.pop((place, doing), None) is not None:
            self.are_there = bool(self._present)
            self._counters[f"fault_passed.{place}.{doing}"] += 1

    @property
    def present(self) -> tuple[Fault, ...]:
        """What did not work when it was tried last."""
        return tuple(self._present[key] for key in sorted(self._present))

    def shown(self) -> list[dict[str, Any]]:
        """For status pages."""
        return [attrs.asdict(fault) for fault in self.present]

    def counters(self) -> dict[str, int]:
        """Refusals by place, way and reason, and how often one has passed."""
        return dict(self._counters)

    @contextmanager
    def writing(self, place: str, what: str) -> Iterator[None]:
        """An OSError inside is raised as StoreNotWritable; ``what`` is what could not be done, for people."""
        try:
            yield
        except OSError as error:
            raise self.noted(place, not_writable(what, error)) from error

    @contextmanager
    def reading(self, place: str, what: str) -> Iterator[None]:
        """The same for StoreNotReadable. A file that is not there is no fault: FileNotFoundError goes through."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self.noted(place, not_readable(what, error)) from error


def not_writable(what: str, error: OSError) -> StoreNotWritable:
    """What a write could not do, whose fault that is, and what helps."""
    reason = _REASONS.get(error.errno or 0, DiskReason.BROKEN)
    return StoreNotWritable(_told(what, error.strerror or str(error), reason), reason)


def not_readable(what: str, error: OSError) -> StoreNotReadable:
    """The same of a read."""
    reason = _REASONS.get(error.errno or 0, DiskReason.BROKEN)
    return StoreNotReadable(_told(what, error.strerror or str(error), reason), reason)


def sqlite_fault(path: Path, error: Exception, doing: Doing) -> StoreFault | None:
    """What SQLite met while it was asked to read or to write; None if the disk is not to blame."""
    code = getattr(error, "sqlite_errorcode", 0)
    primary = code & 0xFF
    if primary in _SQLITE_WRITES:
        reason = _SQLITE_WRITES[primary]
        return StoreNotWritable(_told(str(path), str(error), reason), reason)
    if primary == sqlite3.SQLITE_CANTOPEN:
        reason, is_read = DiskReason.DENIED, doing is Doing.READ
    elif primary == sqlite3.SQLITE_IOERR:
        reason, is_read = DiskReason.BROKEN, doing is Doing.READ or code in _SQLITE_READS
    else:
        return None
    kind = StoreNotReadable if is_read else StoreNotWritable
    return kind(_told(str(path), str(error), reason), reason)


def lost_transaction(path: Path) -> StoreNotWritable:
    """SQLite has undone a whole transaction after a refusal of the disk inside it, which somebody did not pass on."""
    return StoreNotWritable(_told(str(path), "the transaction was undone", DiskReason.BROKEN))


def _told(what: str, problem: str, reason: DiskReason) -> str:
    return f"{what}: {problem}; {_ADVICE[reason]}"
