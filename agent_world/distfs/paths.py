"""Paths of the file index: relative, of segments between single slashes, never above their beginning."""

from __future__ import annotations

from typing import Final

from agent_world.errors import UsageError
from agent_world.wire.limits import RECORD_PATH_BYTES_MAX

PATH_BYTES_MAX: Final = RECORD_PATH_BYTES_MAX
"""In UTF-8: what a record of the log can name."""


RESERVED: Final = "consensus/"
"""Paths below it are written by the record log alone (protocols/replication)."""


def is_reserved(path: str) -> bool:
    """Whether a path in its normal form belongs to the record log."""
    return f"{path}/".startswith(RESERVED)


def normalise_own(path: str) -> str:
    """``normalise``, for whoever wants to change what is there; raises UsageError also for a reserved path."""
    normal = normalise(path)
    if is_reserved(normal):
        raise UsageError(f"path {path[:80]!r}: what is below {RESERVED} is written by the record log alone")
    return normal


def normalise(path: str) -> str:
    """The one form of a path: ``.`` and repeated slashes left out. Idempotent; raises UsageError.

    Refused: empty, absolute, with ``..`` anywhere, without a real segment, longer than PATH_BYTES_MAX, with a NUL or
    anything that is not UTF-8.
    """
    if path.startswith("/"):
        raise UsageError(f"path {path[:80]!r} is absolute; paths of the index are relative")
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    if ".." in segments:
        raise UsageError(f"path {path[:80]!r} goes upwards; '..' has no place in the index")
    if not segments:
        raise UsageError(f"path {path[:80]!r} names no file")
    joined = "/".join(segments)
    try:
        size = len(joined.encode())
    except UnicodeEncodeError:
        raise UsageError(f"path {path[:80]!r} is not UTF-8") from None
    if "\0" in joined or size > PATH_BYTES_MAX:
        raise UsageError(f"path {path[:80]!r} has a NUL, or more than {PATH_BYTES_MAX} bytes")
    return joined
