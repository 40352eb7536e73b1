"""A saved world on disk: JSON files beside a DistFS folder, restored from whichever is newer and whole (Gap 4).

    snapshot.json journal.json                        the fallback, and for people
    snapshot.manifest.json journal.segments.json      what lies in .distfs-state/ab/<64 hex digits>
    distfs.recovery.audit.json                        how the last restore went; .jsonl beside it has all of them

Names: the reference system, section 8.8. A file is written whole or not at all, content before what names it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import structlog

from agent_world.crypto.hashing import verify_blob
from agent_world.errors import BlobNotFound, DataError, DecodeError, HomeError
from agent_world.store.durable import fsync_directory, replace_file, write_temporary
from agent_world.wire import record
from agent_world.wire.block import Event, JournalSegmentRef
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.jsonable import jsonable
from agent_world.wire.limits import BLOB_BYTES_MAX
from agent_world.wire.snapshot import StateChunkRef
from agent_world.world.saved_world import (
    LoadedWorld,
    SavedHead,
    check_world,
    cut_journal,
    head_json,
    join_journal,
    journal_lines,
    pack_state,
    parse_head,
    parse_journal,
    parse_snapshot,
    rebuild_state,
    snapshot_lines,
    unpack_state,
)
from agent_world.world.state import WorldState
from agent_world.world.trie import NodeSource

SNAPSHOT: Final = "snapshot.json"
JOURNAL: Final = "journal.json"
MANIFEST: Final = "snapshot.manifest.json"
SEGMENTS: Final = "journal.segments.json"
CONTENT: Final = ".distfs-state"
AUDIT: Final = "distfs.recovery.audit.json"
RESTORED: Final = "distfs_restored"
FALLBACK: Final = "fallback_json"

_log = structlog.get_logger("agent_world.storage")


@attrs.frozen(slots=True, kw_only=True)
class Restored:
    """A world from a folder, and where it came from."""

    world: LoadedWorld
    status: str | None
    """``distfs_restored``, ``fallback_json``, or None: there is JSON only, which is not audited."""
    reason: str | None
    """Why it is not what DistFS holds."""
    audited: bool
    """False if the audit could not be written; that stops nothing."""


def save_to_dir(directory: Path, head: SavedHead, get: NodeSource, events: Sequence[Event]) -> int:
    """Save a world; what was saved there before is replaced only once all of this is durable and reads back equal.

    ``get`` gives the parts of the state. Returns the bytes of content. Raises HomeError for what the disk refuses,
    DataError if what was written does not read back.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        content = _ContentFolder(directory / CONTENT)
        packs: list[StateChunkRef] = []
        loose: list[StateChunkRef] = []
        segments: list[JournalSegmentRef] = []
        for part, data, is_pack in pack_state(head.state_root, get):
            content.put(part.content, data)
            (packs if is_pack else loose).append(part)
        for segment, data in cut_journal(events):
            content.put(segment.content, data)
            segments.append(segment)
        content.sync()
        check_world(head, unpack_state(head, packs, loose, content.get), join_journal(head, segments, content.get))
        _write(directory / SNAPSHOT, snapshot_lines(head, WorldState(head.state_root, get)))
        _write(directory / JOURNAL, journal_lines(head, events))
        parts = {"packs": _rows(packs), "loose": _rows(loose)}
        _write(directory / SEGMENTS, [json.dumps({**head_json(head), "segments": _rows(segments)}, indent=1)])
        _write(directory / MANIFEST, [json.dumps({**head_json(head), **parts}, indent=1)])
        content.drop_others()
    except OSError as error:
        raise HomeError(f"{directory}: the world cannot be saved: {error.strerror}; check space and rights") from None
    return content.size_bytes


def load_from_dir(directory: Path, now_ms: int) -> Restored:
    """Restore a world, from DistFS if that is whole and not older than the JSON, and note in the audit how it went.

    Raises DataError, naming both faults, if neither can be restored.
    """
    has_content = all((directory / name).exists() for name in (MANIFEST, SEGMENTS, CONTENT))
    if not has_content:
        return Restored(world=_load_json(directory), status=None, reason=None, audited=False)
    try:
        world = _load_content(directory)
        _require_newest(directory, world.head)
    except (DataError, DecodeError) as error:
        reason = f"distfs_restore_failed: {error}"
        audited = _audit(directory, now_ms, FALLBACK, reason)
        try:
            world = _load_json(directory)
        except (DataError, DecodeError) as also:
            raise DataError(f"{directory} cannot be restored: {reason}; and from JSON: {also}") from None
        return Restored(world=world, status=FALLBACK, reason=reason, audited=audited)
    return Restored(world=world, status=RESTORED, reason=None, audited=_audit(directory, now_ms, RESTORED, None))


def _load_content(directory: Path) -> LoadedWorld:
    manifest, segments = _read_json(directory / MANIFEST), _read_json(directory / SEGMENTS)
    head = parse_head(manifest, MANIFEST)
    if parse_head(segments, SEGMENTS) != head:
        raise DataError(f"{SEGMENTS} and {MANIFEST} are of different saves")
    content = _ContentFolder(directory / CONTENT)
    packs, loose = (_parts(manifest, name, MANIFEST, StateChunkRef) for name in ("packs", "loose"))
    blobs = unpack_state(head, packs, loose, content.get)
    events = join_journal(head, _parts(segments, "segments", SEGMENTS, JournalSegmentRef), content.get)
    check_world(head, blobs, events)
    return LoadedWorld(head=head, blobs=blobs, events=events)


def _load_json(directory: Path) -> LoadedWorld:
    head, entries = parse_snapshot(_read(directory / SNAPSHOT), SNAPSHOT)
    also, events = parse_journal(_read(directory / JOURNAL), JOURNAL)
    if also != head:
        raise DataError(f"{JOURNAL} and {SNAPSHOT} are of different saves")
    blobs = rebuild_state(head, entries)
    check_world(head, blobs, events)
    return LoadedWorld(head=head, blobs=blobs, events=events)


def _require_newest(directory: Path, head: SavedHead) -> None:
    """Raises DataError if the JSON is whole and of a higher generation than DistFS (K-8.14)."""
    if not (directory / SNAPSHOT).exists():
        return
    try:
        newer = parse_snapshot(_read(directory / SNAPSHOT), SNAPSHOT)[0].height > head.height
        json_head = _load_json(directory).head if newer else head
    except (DataError, DecodeError) as error:
        _log.warning("the JSON of a saved world is damaged", directory=str(directory), error=str(error))
        return
    if newer:
        raise DataError(f"its generation {head.height} is older than {json_head.height}, that of {SNAPSHOT}")


def _audit(directory: Path, now_ms: int, status: str, reason: str | None) -> bool:
    """Note a restore; whether it could be written."""
    event = {"timestamp_ms": now_ms, "status": status} | ({} if reason is None else {"reason": reason})
    try:
        with (directory / AUDIT).with_suffix(".jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(event) + "\n")
        replace_file(directory / AUDIT, (json.dumps(event) + "\n").encode())
    except OSError as error:
        _log.warning("the audit of a restore cannot be written", directory=str(directory), error=error.strerror)
        return False
    return True


class _ContentFolder:
    """Content by its hash in files; bytes are verified when read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._put: set[ContentHash] = set()
        self._changed: set[Path] = set()
        self.size_bytes = 0
        """Of all that was put."""

    def put(self, cid: Cid, data: bytes) -> None:
        """Store; raises OSError."""
        if cid.digest in self._put:
            return
        self._put.add(cid.digest)
        self.size_bytes += len(data)
        target = self._place(cid.digest)
        try:
            self.get(cid.digest)
        except DataError:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_temporary(target.parent, data).replace(target)
            self._changed.add(target.parent)

    def sync(self) -> None:
        """Make the names of what was put durable."""
        self._path.mkdir(exist_ok=True)
        for path in (*sorted(self._changed), self._path):
            fsync_directory(path)

    def get(self, digest: ContentHash) -> bytes:
        """Verified bytes; raises BlobNotFound, BlobHashMismatch, HomeError."""
        try:
            with self._place(digest).open("rb") as file:
                return verify_blob(file.read(BLOB_BYTES_MAX + 1), digest)
        except FileNotFoundError:
            raise BlobNotFound(f"{CONTENT} does not hold {digest.hex()}") from None
        except OSError as error:
            raise HomeError(f"{self._place(digest)} cannot be read: {error.strerror}") from None

    def drop_others(self) -> None:
        """Remove what was not put: the content of earlier saves, and what a crash has left."""
        kept = {self._place(digest) for digest in self._put}
        for folder in self._path.iterdir():
            if not folder.is_dir():
                folder.unlink()
                continue
            for path in folder.iterdir():
                if path not in kept:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _place(self, digest: ContentHash) -> Path:
        name = digest.hex()
        return self._path / name[:2] / name


def _write(path: Path, lines: Iterable[str]) -> None:
    replace_file(path, "".join(lines).encode())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path.name} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name}: not JSON: {error}") from None


def _rows(values: Sequence[object]) -> list[Any]:
    return [jsonable(record.unstructure(value)) for value in values]


def _parts(found: Mapping[str, Any], name: str, source: str, kind: type[Any]) -> list[Any]:
    rows = found.get(name)
    if not isinstance(rows, list):
        raise DataError(f"{source}: {name} must be a list")
    try:
        return [record.structure({**row, "content": Cid.parse(row["content"])}, kind) for row in rows]
    except (KeyError, TypeError, ValueError, DecodeError) as error:
        raise DataError(f"{source}: a part in {name} is none: {error!r}") from None
