"""Files, pins, single blobs, the record log, collections, crashes and a disk that refuses, against dictionaries."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from agent_world.config import StorageConfig
from agent_world.crypto.hashing import content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.distfs.replication import (
    FileEntry,
    build_replication_record,
    sign_replication_record,
    validate_and_advance,
)
from agent_world.errors import ErrorCode, FileConflict, FileMissing, Refused, StoreNotWritable
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector
from agent_world.store.durable import FaultHook, no_fault
from agent_world.store.file_index import Expect, FileIndex
from agent_world.store.file_rows import record_of
from agent_world.store.home import Home
from agent_world.store.pins import Pin, PinTable
from agent_world.store.replication import ReplicationStore
from agent_world.testing.faulty_disk import FaultyDisk
from agent_world.testing.record_log import WORLD, A, B, key_of, lease
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.file_index import FileMetadata
from agent_world.wire.ids import U64, TimeMs
from agent_world.wire.limits import BLOB_BYTES_MAX

GENESIS = hash32(b"genesis")
STEPS = ("checked", "blobs_inserted", "row_written", "committed")
REMOVAL_STEPS = ("checked", "row_removed", "removal_committed")
NAMES = st.sampled_from(["a", "b", "c/d"])
DATA = st.sampled_from([b"", b"one", b"two", b"x" * 40_000, b"y" * (BLOB_BYTES_MAX + 9)])
SMALL = DATA.filter(lambda data: len(data) <= BLOB_BYTES_MAX)
NUMBERS = st.sampled_from([errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])


class Machine(RuleBasedStateMachine):
    """One home: what is in its index, what its pins keep, what its record log says."""

    folders: Iterator[Path]

    def __init__(self) -> None:
        super().__init__()
        self.path = next(self.folders)
        Home.create(self.path, genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=KeyPair(bytes(32)))
        self.stack = ExitStack()
        self.disk = self.stack.enter_context(FaultyDisk(self.path).active())
        self.now_ms = 1_000
        self.term = 1
        self.is_writer = True
        self.files: dict[str, bytes] = {}
        self.pinned: dict[str, bytes] = {}
        self.open()

    def open(self) -> None:
        self.home = Home.open(self.path, GENESIS)
        self.blobs = LocalCasStore(self.home, StorageConfig(bulk_sync=False))
        self.blobs.wall_ms = lambda: self.now_ms
        self.index = self.make_index()
        self.log = ReplicationStore(self.home, self.blobs, WORLD)
        self.pins = PinTable(self.home)

    def make_index(self, fault: FaultHook = no_fault) -> FileIndex:
        index = FileIndex(self.home, self.blobs, fault=fault)
        refuse = index.check_writer
        index.check_writer = lambda path: None if self.is_writer else refuse(path)
        index.written = self.written
        index.removed = self.removed
        return index

    def written(self, file: FileMetadata) -> None:
        if self.is_writer:
            self.queue(file.path, file.content, file.size_bytes)

    def removed(self, file: FileMetadata, _at_ms: TimeMs) -> None:
        if self.is_writer and self.index.is_logged(file.path):
            self.queue(file.path, None, U64(0))

    def queue(self, path: str, content: Cid | None, size_bytes: U64) -> None:
        self.log.queue_file(FileEntry(path=path, content=content, size_bytes=size_bytes, updated_at_ms=TimeMs(0)))

    def teardown(self) -> None:
        self.home.close()
        self.stack.close()

    def attempt(self, change: Callable[[], object], *paths: str) -> bool:
        """Whether it was done; else the disk refuses, or it is not the writer, and nothing has changed."""
        held = any(map(self.index.is_logged, paths))
        try:
            change()
        except StoreNotWritable:
            assert self.disk.refused
            return False
        except Refused as error:
            assert (error.code, held, self.is_writer) == (ErrorCode.UNAUTHORIZED, True, False)  # noqa: PT017
            return False
        finally:
            self.disk.mend()
        assert self.is_writer or not held
        return True

    @rule(writes=st.integers(0, 25), number=NUMBERS, lasting=st.booleans())
    def the_next_is_refused(self, writes: int, number: int, lasting: bool) -> None:
        self.disk.break_after(writes, number, lasting=lasting)

    @rule()
    def the_lease_is_lost(self) -> None:
        self.is_writer = False

    @rule()
    def the_lease_is_taken(self) -> None:
        self.term += not self.is_writer
        self.is_writer = True

    @precondition(lambda self: self.is_writer)
    @rule(count=st.integers(1, 9))
    def publish(self, count: int) -> None:
        for item in self.log.outgoing(count):
            content = item.entry.content
            data = b"" if content is None else self.blobs.get(content.digest)
            guard = self.log.guard()
            said = build_replication_record(guard, lease(A, self.term), item.entry)
            opened = sign_replication_record(said, GENESIS, key_of(A))
            after = validate_and_advance(guard, said)
            position = item.position
            if not self.attempt(lambda: self.log.accept(opened, after, data, published=position)):  # noqa: B023
                return

    @precondition(lambda self: not self.is_writer)
    @rule(path=NAMES, data=st.none() | SMALL)
    def another_writes(self, path: str, data: bytes | None) -> None:
        content = None if data is None else Cid(Codec.RAW, content_hash(data))
        size_bytes = U64(len(data or b""))
        entry = FileEntry(path=path, content=content, size_bytes=size_bytes, updated_at_ms=TimeMs(0))
        guard = self.log.guard()
        said = build_replication_record(guard, lease(B, self.term + 1), entry)
        opened = sign_replication_record(said, GENESIS, key_of(B))
        if not self.attempt(lambda: self.log.accept(opened, validate_and_advance(guard, said), data or b"")):
            return
        self.term += 1
        self.files.pop(path, None)
        if data is not None:
            self.files[path] = data

    @rule(path=NAMES, data=DATA)
    def write(self, path: str, data: bytes) -> None:
        if self.attempt(lambda: self.index.write_file(path, data), path):
            self.files[path] = data

    @rule(path=NAMES, data=DATA, expected=st.none() | DATA)
    def write_if_match(self, path: str, data: bytes, expected: bytes | None) -> None:
        condition = Expect.NOTHING_THERE if expected is None else content_hash(expected)
        held = self.index.stat_file(path)
        matches = held is None if expected is None else held is not None and held.content_hash == condition
        assert (held is None) == (path not in self.files)
        try:
            done = self.attempt(lambda: self.index.write_file_if_match(path, condition, data), path)
        except FileConflict:
            assert not matches
        else:
            assert matches or not done
            if done:
                self.files[path] = data

    @rule(path=NAMES)
    def delete(self, path: str) -> None:
        found: list[bool] = []
        if self.attempt(lambda: found.append(self.index.delete_file(path)), path):
            assert found == [self.files.pop(path, None) is not None]

    @rule(path=NAMES, to=NAMES)
    def copy(self, path: str, to: str) -> None:
        try:
            done = self.attempt(lambda: self.index.copy(path, to), to)
        except FileMissing:
            assert path not in self.files
        else:
            if done:
                self.files[to] = self.files[path]

    @rule(data=SMALL)
    def put_and_pin(self, data: bytes) -> None:
        pin = Pin(name=content_hash(data).hex(), cid=Cid(Codec.RAW, content_hash(data)), made_ms=TimeMs(0))
        if self.attempt(lambda: (self.blobs.put(data), self.pins.put(pin))):
            self.pinned[pin.name] = data

    @precondition(lambda self: self.pinned)
    @rule(number=st.integers(0, 9))
    def unpin(self, number: int) -> None:
        name = sorted(self.pinned)[number % len(self.pinned)]
        if self.attempt(lambda: self.pins.remove(name)):
            del self.pinned[name]

    @rule(data=SMALL)
    def put(self, data: bytes) -> None:
        self.attempt(lambda: self.blobs.put(data))

    @rule(grace_ms=st.sampled_from([0, 50]), passed=st.integers(0, 60))
    def collect(self, grace_ms: int, passed: int) -> None:
        self.now_ms += passed
        self.attempt(lambda: self.collected(grace_ms))

    def collected(self, grace_ms: int) -> None:
        collector = Collector(self.home, self.blobs)
        with collector.alone():
            for steps in (collector.mark(self.now_ms), collector.note(self.now_ms)):
                for _ in steps:
                    pass
            for _ in collector.sweep(self.now_ms, grace_ms):
                pass

    @rule(path=NAMES, data=DATA, step=st.sampled_from(STEPS))
    def crash_in_a_write(self, path: str, data: bytes, step: str) -> None:
        if self.crash(step, lambda index: index.write_file(path, data), path) and step == "committed":
            self.files[path] = data

    @rule(path=NAMES, step=st.sampled_from(REMOVAL_STEPS))
    def crash_in_a_removal(self, path: str, step: str) -> None:
        is_there = path in self.files
        if is_there and self.crash(step, lambda index: index.delete_file(path), path) and step == "removal_committed":
            del self.files[path]

    def crash(self, step: str, change: Callable[[FileIndex], object], path: str) -> bool:
        """Whether the process died there, and was started again."""

        def stop(done: str) -> None:
            if done == step:
                raise KeyboardInterrupt

        self.disk.mend()
        if not self.is_writer and self.index.is_logged(path):
            return False
        with pytest.raises(KeyboardInterrupt):
            change(self.make_index(stop))
        self.restart()
        return True

    @rule()
    def restart(self) -> None:
        self.disk.mend()
        self.home.close()
        self.open()

    @invariant()
    def nothing_is_lost(self) -> None:
        armed = self.disk.pause()
        assert {file.path: self.index.read_file(file.path) for file in self.index.list_files()} == self.files
        for data in self.pinned.values():
            assert self.blobs.get(content_hash(data)) == data
        self.disk.resume(armed)

    @invariant()
    def the_log_says_what_the_index_has(self) -> None:
        armed = self.disk.pause()
        waiting = {entry.path for entry in self.log.waiting()}
        newest = {}
        for data in self.log.records_after((0, 0), 10_000):
            said = record_of(data)[1]
            newest[said.path] = said.content
        for path, content in newest.items():
            if path not in waiting and content is not None:
                there = self.index.stat_file(path)
                assert there is not None
                assert there.content == content
        self.disk.resume(armed)


def test_a_machine_of_files_pins_and_crashes(tmp_path: Path) -> None:
    Machine.folders = (tmp_path / str(number) for number in range(10**6))
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
