"""guard.log: the append-only, checksummed twin of the guard's database.

    header   magic 8 | genesis hash 32 | validator key 32 | checksum 32 = BLAKE3(what precedes)
    record   length 4, big-endian | record | checksum 32 = BLAKE3(previous checksum | length | record)

The checksums form a chain from the header on, so a record that was changed, cut out or moved is found.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import attrs

from agent_world.consensus.guard_records import GUARD_RECORD_BYTES_MAX, GuardRecord
from agent_world.crypto.hashing import hash32
from agent_world.errors import DataError, HomeError
from agent_world.store.durable import replace_file
from agent_world.wire.ids import Hash32, PublicKey
from agent_world.wire.limits import MIB

MAGIC: Final = b"AWGUARD1"
COMPACT_BYTES: Final = MIB
"""The log is rewritten with the records that still matter once it is this large and twice as large as after the last
rewriting: about every 600 heights of ordinary votes."""
LOG_BYTES_MAX: Final = 64 * MIB
"""Largest log that is read; four heights of 48 full proposals with proofs stay below it."""
_CHECKSUM_BYTES: Final = 32
_LENGTH_BYTES: Final = 4
HEADER_BYTES: Final = len(MAGIC) + 32 + 32 + _CHECKSUM_BYTES


@attrs.frozen(slots=True)
class LogContent:
    """What could be read of a log."""

    records: tuple[GuardRecord, ...]
    """Up to the first damage, in order."""
    damage: str
    """What is wrong with a record that is not the last one, or with the header; empty if nothing is."""
    touched_height: int
    """Highest height named by any readable record, also behind the damage."""
    end: int
    """Offset behind the last good record; what follows is a torn tail."""
    tail: bytes = b""
    """The torn tail, without damage before it."""
    checksum: bytes = b""
    """Of the last good record; what the next one goes on from."""

    def is_part_of(self, made: GuardRecord) -> bool:
        """Whether the tail is what a power cut may leave of this record: its bytes, some of them missing or zero."""
        framed = _framed(made.to_bytes(), self.checksum)
        if len(self.tail) > len(framed):
            return False
        return all(there in (0, whole) for there, whole in zip(self.tail, framed, strict=False))


def header(genesis_hash: Hash32, validator_key: PublicKey) -> bytes:
    """First bytes of the log of one validator in one world."""
    body = MAGIC + genesis_hash + validator_key
    return body + hash32(body)


def read(path: Path, genesis_hash: Hash32, validator_key: PublicKey) -> LogContent:
    """Read a whole log. Raises HomeError if it belongs to another world or key; damage is reported, not raised."""
    try:
        with path.open("rb") as file:
            data = file.read(LOG_BYTES_MAX + 1)
    except OSError as error:
        raise HomeError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > LOG_BYTES_MAX:
        raise HomeError(f"{path} is larger than {LOG_BYTES_MAX} bytes: not a guard log")
    start = data[:HEADER_BYTES]
    if len(start) < HEADER_BYTES or start[: len(MAGIC)] != MAGIC or hash32(start[:-_CHECKSUM_BYTES]) != start[-32:]:
        return LogContent((), "the header is damaged", 0, 0)
    if start != header(genesis_hash, validator_key):
        raise HomeError(
            f"{path} belongs to another world or validator key; it is neither used nor changed: put "
            "the guard of this home's key and world there"
        )
    return _parse(data, start[-_CHECKSUM_BYTES:])


def _parse(data: bytes, checksum: bytes) -> LogContent:
    records: list[GuardRecord] = []
    damage, touched, end, offset = "", 0, HEADER_BYTES, HEADER_BYTES
    while offset < len(data):
        framed = _frame(data, offset)
        if framed is None:
            if not _is_torn(data, offset):
                damage = damage or f"no record at byte {offset}"
            break
        expected = hash32(checksum + framed[:-_CHECKSUM_BYTES])
        whole = expected == framed[-_CHECKSUM_BYTES:]
        made = _record(framed)
        if made is not None:
            touched = max(touched, made.height)
        offset += len(framed)
        if damage:
            continue  # only looking for heights touched
        if whole and made is not None:
            records.append(made)
            checksum, end = expected, offset
        elif offset < len(data):
            damage = f"the record that ends at byte {offset} is damaged"
        # else it is the last one: a write that a crash tore
    return LogContent(tuple(records), damage, touched, end, b"" if damage else data[end:], checksum)


def _frame(data: bytes, offset: int) -> bytes | None:
    """Length, record and checksum at ``offset``; None if they are not all there."""
    length = int.from_bytes(data[offset : offset + _LENGTH_BYTES], "big")
    size = _LENGTH_BYTES + length + _CHECKSUM_BYTES
    if not 0 < length <= GUARD_RECORD_BYTES_MAX or offset + size > len(data):
        return None
    return data[offset : offset + size]


def _is_torn(data: bytes, offset: int) -> bool:
    """Whether an unreadable rest is what a crash leaves: a record cut short, or a grown file of zeros."""
    rest = data[offset:]
    length = int.from_bytes(rest[:_LENGTH_BYTES], "big")
    return len(rest) < _LENGTH_BYTES or not any(rest) or 0 < length <= GUARD_RECORD_BYTES_MAX


def _record(framed: bytes) -> GuardRecord | None:
    try:
        return GuardRecord.from_bytes(framed[_LENGTH_BYTES:-_CHECKSUM_BYTES])
    except DataError:
        return None


class GuardLog:
    """An open log to which records are appended."""

    def __init__(self, path: Path, checksum: bytes, descriptor: int) -> None:
        self._path = path
        self._checksum = checksum
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._compact_at = max(COMPACT_BYTES, 2 * self._size)
        self._syncer = _Syncer()

    @classmethod
    def rewrite(
        cls, path: Path, genesis_hash: Hash32, validator_key: PublicKey, records: tuple[GuardRecord, ...]
    ) -> GuardLog:
        """Make or replace the log at once, with these records as its content; raises HomeError."""
        data = bytearray(header(genesis_hash, validator_key))
        checksum = bytes(data[-_CHECKSUM_BYTES:])
        for made in records:
            framed = _framed(made.to_bytes(), checksum)
            checksum = framed[-_CHECKSUM_BYTES:]
            data += framed
        try:
            replace_file(path, bytes(data))
            return cls(path, checksum, _open(path))
        except OSError as error:
            raise HomeError(f"{path} cannot be written: {error.strerror}; check space and rights") from error

    @classmethod
    def resume(cls, path: Path, end: int) -> GuardLog:
        """Go on behind the last good record of a log that was read; cuts off a torn tail.

        What was read is durable then: a process that was killed may have written its last record and not synced it.
        """
        try:
            descriptor = _open(path)
            if os.fstat(descriptor).st_size != end:
                os.ftruncate(descriptor, end)
            os.fsync(descriptor)
            checksum = os.pread(descriptor, _CHECKSUM_BYTES, end - _CHECKSUM_BYTES)
            return cls(path, checksum, descriptor)
        except OSError as error:
            raise HomeError(f"{path} cannot be opened for writing: {error.strerror}") from error

    @property
    def is_long(self) -> bool:
        """Whether most of it no longer matters, so that it should be rewritten."""
        return self._size > self._compact_at

    def append(self, made: GuardRecord) -> None:
        """Append and fsync one record; raises HomeError, after which this object must not be used again."""
        with self.appending(made.to_bytes()):
            pass

    @contextmanager
    def appending(self, data: bytes) -> Iterator[None]:
        """As ``append`` of the record with these bytes, with the fsync beside the body of the with statement.

        The record is in the file when the body begins, and durable when the statement ends. So the twin's wait for
        the disk takes no time of its own: the body makes the same record durable in the other file.
        """
        framed = _framed(data, self._checksum)
        try:
            written = os.write(self._descriptor, framed)
        except OSError as error:
            raise self._refused(error) from error
        if written != len(framed):
            with suppress(OSError):  # then the part stays, and the next start takes it for what may have been sent
                os.ftruncate(self._descriptor, self._size)
            raise HomeError(f"{self._path}: only {written} of {len(framed)} bytes were written; free disk space")
        self._syncer.start(self._descriptor)
        yield
        failure = self._syncer.wait()
        if failure is not None:
            raise self._refused(failure) from failure
        self._checksum = framed[-_CHECKSUM_BYTES:]
        self._size += len(framed)

    def _refused(self, error: OSError) -> HomeError:
        return HomeError(f"{self._path} cannot be written: {error.strerror}; check space and rights")

    def close(self) -> None:
        """Let go of the file, once nobody syncs it any more."""
        self._syncer.close()
        os.close(self._descriptor)


class _Syncer:
    """A thread that calls fsync. Two queues do the same as a ThreadPoolExecutor at a tenth of its cost."""

    def __init__(self) -> None:
        self._wanted: SimpleQueue[int | None] = SimpleQueue()
        self._done: SimpleQueue[OSError | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="guard-log", daemon=True)
        self._thread.start()

    def start(self, descriptor: int) -> None:
        """Begin; ``wait`` must follow before the next."""
        self._wanted.put(descriptor)

    def wait(self) -> OSError | None:
        """What went wrong with the fsync begun last, if anything, once it is over."""
        return self._done.get()

    def close(self) -> None:
        """End the thread."""
        self._wanted.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (descriptor := self._wanted.get()) is not None:
            try:
                os.fsync(descriptor)
            except OSError as error:
                self._done.put(error)
            else:
                self._done.put(None)


def _framed(data: bytes, checksum: bytes) -> bytes:
    body = len(data).to_bytes(_LENGTH_BYTES, "big") + data
    return body + hash32(checksum + body)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
