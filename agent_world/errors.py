"""The error tree. An error says whose fault it is; every class has one exit code and one wire code.

AgentWorldError
├── UsageError            you called it wrongly: command line, configuration, file you named      exit 64
│   ├── InterchangeError  a guard interchange file is not one, or is of another world or key
│   └── RangeOutside      bytes were asked for that the content does not have, or too many at once
├── DataError             stored data are damaged or belong to something else                    exit 65
│   ├── HomeError         the home directory is foreign, half made, locked or damaged
│   │   ├── DatabaseDamaged   a database file in it is half made or broken
│   │   ├── GuardLost     both files of the vote guard are missing or damaged; the operator must say so
│   │   └── StoreFault        the disk refuses; nothing stored is wrong, and it may pass            exit 74
│   │       ├── StoreNotWritable  a write: full, read-only, rights lost, broken
│   │       └── StoreNotReadable  a read: rights lost, broken
│   ├── BlobNotFound      no blob of that hash here
│   ├── BlobHashMismatch  bytes do not hash to their name
│   ├── BlobTooLarge      content above the size of one blob; it must travel as a file manifest
│   ├── FileMissing       the file index has no such path
│   ├── StoreFull         the quota for content that is not the chain's is used up
│   └── ChainError        a block, certificate or root does not check out
├── LocalError            our own code called out of turn: a bug                                  exit 70
├── NotSafe               the vote guard refuses a signature that could contradict an earlier one exit 71
├── RemoteError           a peer broke the protocol; ``rule`` names the README rule               exit 76
│   └── DecodeError       bytes that are not what they claim to be
├── ForkProved            two certified blocks of one height: a third of the stake or more is faulty  exit 79
├── FileConflict          a file is not what a change on condition expected                       exit 69
├── Ignored               a message is not for now: stale, early or already known; nobody's fault       exit 75
├── Refused               a request was refused, with a code of ``ErrorCode``                     exit 75/69
└── Unavailable           nobody could be asked, or nobody answered in time                       exit 75
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final


class ErrorCode(StrEnum):
    """The ten wire codes of requests; source: the reference system"""

    NOT_FOUND = "ERR_NOT_FOUND"
    BAD_REQUEST = "ERR_BAD_REQUEST"
    INVALID_HASH = "ERR_INVALID_HASH"
    STATE_MISMATCH = "ERR_STATE_MISMATCH"
    UNSUPPORTED = "ERR_UNSUPPORTED"
    UNAUTHORIZED = "ERR_UNAUTHORIZED"
    BUSY = "ERR_BUSY"
    RATE_LIMITED = "ERR_RATE_LIMITED"
    TIMEOUT = "ERR_TIMEOUT"
    NOT_AVAILABLE = "ERR_NOT_AVAILABLE"

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later without being changed."""
        return self in _RETRYABLE


_RETRYABLE: Final = frozenset({ErrorCode.BUSY, ErrorCode.RATE_LIMITED, ErrorCode.TIMEOUT, ErrorCode.NOT_AVAILABLE})


class AgentWorldError(Exception):
    """Base of every error this program raises on purpose."""

    exit_code: ClassVar[int] = 70
    wire_code: ClassVar[ErrorCode] = ErrorCode.NOT_AVAILABLE


class UsageError(AgentWorldError):
    """The caller's fault: an option, a configuration value or a named file is wrong."""

    exit_code = 64
    wire_code = ErrorCode.BAD_REQUEST


class InterchangeError(UsageError):
    """A guard interchange file that cannot be taken in; ``place`` says where in it, such as "signed[3].round"."""

    def __init__(self, place: str, detail: str) -> None:
        super().__init__(f"{place}: {detail}")
        self.place = place
        self.detail = detail


class RangeOutside(UsageError):
    """A range of bytes that content of ``size_bytes`` does not have, or one that is too long to be given in one go."""

    def __init__(self, start: int, end: int, size_bytes: int, why: str) -> None:
        super().__init__(f"bytes {start} to {end} of {size_bytes}: {why}")
        self.size_bytes = size_bytes


class DataError(AgentWorldError):
    """What is stored here is damaged, or is not what it should be."""

    exit_code = 65


class HomeError(DataError):
    """The home directory is foreign, half made, locked by another process or damaged."""


class DatabaseDamaged(HomeError):
    """A database file is half made or broken, whoever it belongs to; another copy of its content may help."""


class GuardLost(HomeError):
    """What this validator signed is not known: its guard is missing or damaged. Nothing is signed before it is."""


class DiskReason(StrEnum):
    """Why a disk refuses, for programs; stable."""

    FULL = "disk_full"
    """No space, or the user's quota of it is used up."""
    READ_ONLY = "read_only"
    """The file system, or the file, cannot be written by anybody."""
    DENIED = "no_permission"
    """Whoever runs this program may not."""
    BROKEN = "io_error"
    """The device reports an error, or anything else."""


class StoreFault(HomeError):
    """The disk refuses, for a ``reason``. What is stored is as it was, and the same call may succeed later.

    After sysexits.h (EX_IOERR): the fault is the machine's, not that of the data or of the caller.
    """

    exit_code = 74

    def __init__(self, message: str, reason: DiskReason = DiskReason.BROKEN) -> None:
        super().__init__(message)
        self.reason = reason


class StoreNotWritable(StoreFault):
    """The disk takes no write: nothing of the change was stored."""


class StoreNotReadable(StoreFault):
    """The disk gives no bytes; whether they are sound is not known."""


class BlobNotFound(DataError):
    """No blob of this content hash is stored here."""

    wire_code = ErrorCode.NOT_FOUND


class BlobHashMismatch(DataError):
    """The bytes found do not hash to the name they were asked by."""

    wire_code = ErrorCode.INVALID_HASH


class BlobTooLarge(DataError):
    """More than BLOB_BYTES_MAX bytes were offered as one blob; larger content is a file manifest of chunks (D2)."""

    wire_code = ErrorCode.BAD_REQUEST


class FileMissing(DataError):
    """The file index has no such path, or what it names is not stored here."""

    wire_code = ErrorCode.NOT_FOUND


class FileConflict(AgentWorldError):
    """A file was to be changed on a condition that does not hold; ``current`` is the hash that is there, or None."""

    exit_code = 69
    wire_code = ErrorCode.STATE_MISMATCH

    def __init__(self, path: str, current: bytes | None, detail: str) -> None:
        now = "nothing" if current is None else current.hex()
        super().__init__(f"{path}: {detail} (now {now}); read it again and repeat the change")
        self.path = path
        self.current = current


class StoreFull(DataError):
    """The quota for content that is not the chain's is used up; unpin or remove something, or raise it."""

    wire_code = ErrorCode.BUSY


class ChainError(DataError):
    """A block, certificate or root does not check out; ``height`` says where, ``what`` names the part."""

    wire_code = ErrorCode.STATE_MISMATCH

    def __init__(self, height: int, what: str, detail: str) -> None:
        super().__init__(f"height {height}: {what}: {detail}")
        self.height = height
        self.what = what
        self.detail = detail


class LocalError(AgentWorldError):
    """Our own code was called out of turn; never caused by what a peer or a user sent."""


class NotSafe(AgentWorldError):
    """The vote guard refuses: the signature could contradict one that was given before."""

    exit_code = 71


class RemoteError(AgentWorldError):
    """A peer broke the protocol; ``rule`` names the rule of the protocol's README, such as "A3"."""

    exit_code = 76
    wire_code = ErrorCode.BAD_REQUEST

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class DecodeError(RemoteError):
    """Bytes that are not the strict encoding of what they claim to be."""


class ForkProved(AgentWorldError):
    """The right validator sets have certified two blocks for one ``height``: no head can be believed."""

    exit_code = 79
    wire_code = ErrorCode.STATE_MISMATCH

    def __init__(self, height: int, detail: str) -> None:
        super().__init__(f"FORK at height {height}: {detail}")
        self.height = height
        self.detail = detail


class Ignored(AgentWorldError):
    """A message that is not for now: stale, early or already known. Dropped without blame (Verdict.IGNORE)."""

    exit_code = 75

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class Refused(AgentWorldError):
    """A request was refused by whoever was asked.

    ``code`` is the wire code, ``rule`` the stable name of the broken rule (empty if none), ``retryable`` what
    the answer said: trusted as sent, never recomputed.
    """

    def __init__(self, code: ErrorCode, message: str, *, rule: str = "", retryable: bool | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.rule = rule
        self.retryable = code.retryable if retryable is None else retryable

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """75 (try again later) or 69 (refused for good), after sysexits.h."""
        return 75 if self.retryable else 69


class Unavailable(AgentWorldError):
    """Nobody could be asked, or nobody answered in time."""

    exit_code = 75
    wire_code = ErrorCode.NOT_AVAILABLE
