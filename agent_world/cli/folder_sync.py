"""What mirroring a folder into a file index takes, and doing it (fs sync)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from agent_world.cli.client import NodeClient
from agent_world.distfs.content_stream import cid_of_stream
from agent_world.distfs.paths import normalise
from agent_world.errors import ErrorCode, Refused, UsageError
from agent_world.wire.limits import MIB

Advanced = Callable[[int], None]
"""Told of so many bytes more."""


@attrs.frozen(slots=True, kw_only=True)
class LocalFile:
    """One file of the folder."""

    file: Path
    path: str
    """In the index."""
    size_bytes: int
    problem: str = ""
    """Why it cannot be mirrored."""
    hides: bool = False
    """A folder that could not be listed: what is in it is not known."""


@attrs.frozen(slots=True, kw_only=True)
class Row:
    """What is to be done with one path, or was."""

    action: str
    """write, unchanged, remove, conflict, skipped, failed."""
    path: str
    size_bytes: int = 0
    detail: str = ""
    file: Path | None = None
    if_match: str | None = None
    """What the index has there; None: nothing."""
    is_local: bool = False
    """Written, and no other node gets it."""

    def shown(self) -> dict[str, Any]:
        """For people."""
        return {"action": self.action, "path": self.path, "size_bytes": self.size_bytes, "detail": self.detail}


def local_files(directory: Path, folder: str) -> Iterator[LocalFile]:
    """Every file below ``directory``, sorted, with its path below ``folder`` of the index.

    Raises UsageError if ``directory`` itself cannot be listed.
    """
    unlisted: list[OSError] = []
    for root, folders, names in os.walk(directory, onerror=unlisted.append):
        folders.sort()
        links = [name for name in folders if (Path(root) / name).is_symlink()]  # which are not followed
        for name in sorted([*names, *links]):
            file = Path(root) / name
            relative = file.relative_to(directory).as_posix()
            wanted = f"{folder}/{relative}" if folder else relative
            try:
                info = file.lstat()
                path, problem = normalise(wanted), "" if stat.S_ISREG(info.st_mode) else "neither a file nor a folder"
                size = info.st_size
            except (OSError, UsageError) as error:
                path, problem, size = wanted.encode(errors="replace").decode(), str(error), 0
            yield LocalFile(file=file, path=path, size_bytes=size, problem=problem)
    for each in unlisted:
        relative = Path(each.filename).relative_to(directory).as_posix()
        if relative == ".":
            raise UsageError(f"cannot list {directory}: {each.strerror}")
        path = (f"{folder}/{relative}" if folder else relative).encode(errors="replace").decode()
        yield LocalFile(file=Path(each.filename), path=path, size_bytes=0, problem=str(each), hides=True)


def plan(
    here: Sequence[LocalFile], there: Mapping[str, Mapping[str, Any]], advanced: Advanced, *, delete: bool
) -> list[Row]:
    """Rows for all paths; files are read only where the index has one of the same size.

    With ``delete`` what the index has below a folder that could not be listed stays: it may well be there.
    """
    rows = []
    for file in here:
        found = there.get(file.path)
        if file.problem:
            rows.append(Row(action="failed" if file.hides else "skipped", path=file.path, detail=file.problem))
            continue
        if_match = None if found is None else found["content_hash"]
        row = Row(action="write", path=file.path, size_bytes=file.size_bytes, file=file.file, if_match=if_match)
        if found is not None and found["size_bytes"] == file.size_bytes:
            try:
                if file_hash(file.file, advanced) == if_match:
                    row = attrs.evolve(row, action="unchanged")
            except OSError as error:
                row = attrs.evolve(row, action="failed", detail=str(error))
        rows.append(row)
    kept = {file.path for file in here}
    hiding = tuple(f"{file.path}/" for file in here if file.hides)
    if delete:
        rows += [
            Row(action="remove", path=path, size_bytes=found["size_bytes"], if_match=found["content_hash"])
            for path, found in sorted(there.items())
            if path not in kept and not path.startswith(hiding)
        ]
    return rows


def file_hash(file: Path, advanced: Advanced) -> str:
    """Content hash of a file as the index has it: of its one blob, or of its manifest. Raises OSError."""
    with file.open("rb") as source:

        def parts() -> Iterator[bytes]:
            while part := source.read(MIB):
                advanced(len(part))
                yield part

        return cid_of_stream(parts()).digest.hex()


class FolderSync:
    """Carries a plan out, each change on the condition that its path is as it was."""

    def __init__(self, node: NodeClient, advanced: Advanced) -> None:
        self._node = node
        self._advanced = advanced

    def carry_out(self, rows: Sequence[Row]) -> list[Row]:
        """The rows as they went; one that fails stops no other. Raises Unavailable."""
        return [self._do(row) for row in rows]

    def _do(self, row: Row) -> Row:
        try:
            if row.action == "write":
                return attrs.evolve(row, is_local=bool(self._write(row)["is_local"]))
            if row.action == "remove":
                self._node.post_json("/fs/remove", {"path": row.path, "if_match": row.if_match})
        except Refused as error:
            action = "conflict" if error.code is ErrorCode.STATE_MISMATCH else "failed"
            return attrs.evolve(row, action=action, detail=error.message)
        except OSError as error:
            return attrs.evolve(row, action="failed", detail=str(error))
        return row

    def _write(self, row: Row) -> Any:
        assert row.file is not None, "only files are written"
        with row.file.open("rb") as source:

            def parts() -> Iterator[bytes]:
                while part := source.read(MIB):
                    yield part
                    self._advanced(len(part))

            query = {"path": row.path, "if_match": row.if_match, "if_absent": "1" if row.if_match is None else None}
            return self._node.post_stream("/fs/file", parts(), **query)
