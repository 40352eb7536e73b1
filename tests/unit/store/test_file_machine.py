"""Files, pins, single blobs, collections and crashes in any order, against dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from agent_world.crypto.hashing import content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import FileConflict, FileMissing
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector
from agent_world.store.file_index import Expect, FileIndex
from agent_world.store.home import Home
from agent_world.store.pins import Pin, PinTable
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import TimeMs
from agent_world.wire.limits import BLOB_BYTES_MAX

GENESIS = hash32(b"genesis")
STEPS = ("checked", "blobs_inserted", "row_written", "committed")
NAMES = st.sampled_from(["a", "b", "c/d"])
DATA = st.sampled_from([b"", b"one", b"two", b"x" * 40_000, b"y" * (BLOB_BYTES_MAX + 9)])


class Machine(RuleBasedStateMachine):
    """Files, pins, single blobs, collections and crashes against dictionaries."""

    folders: Iterator[Path]

    def __init__(self) -> None:
        super().__init__()
        self.path = next(self.folders)
        Home.create(self.path, genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=KeyPair(bytes(32)))
        self.now_ms = 1_000
        self.files: dict[str, bytes] = {}
        self.pinned: dict[str, bytes] = {}
        self.open()

    def open(self) -> None:
        self.home = Home.open(self.path, GENESIS)
        self.blobs = LocalCasStore(self.home)
        self.blobs.wall_ms = lambda: self.now_ms
        self.index = FileIndex(self.home, self.blobs)
        self.pins = PinTable(self.home)

    def teardown(self) -> None:
        self.home.close()

    @rule(path=NAMES, data=DATA)
    def write(self, path: str, data: bytes) -> None:
        self.index.write_file(path, data)
        self.files[path] = data

    @rule(path=NAMES, data=DATA, expected=st.none() | DATA)
    def write_if_match(self, path: str, data: bytes, expected: bytes | None) -> None:
        there = self.files.get(path)
        condition = Expect.NOTHING_THERE if expected is None else content_hash(expected)
        held = self.index.stat_file(path)
        matches = held is None if expected is None else held is not None and held.content_hash == condition
        assert (held is None) == (there is None)
        try:
            self.index.write_file_if_match(path, condition, data)
        except FileConflict:
            assert not matches
        else:
            assert matches
            self.files[path] = data

    @rule(path=NAMES)
    def delete(self, path: str) -> None:
        assert self.index.delete_file(path) == (self.files.pop(path, None) is not None)

    @rule(path=NAMES, to=NAMES)
    def copy(self, path: str, to: str) -> None:
        if path in self.files:
            self.index.copy(path, to)
            self.files[to] = self.files[path]
        else:
            with pytest.raises(FileMissing):
                self.index.copy(path, to)

    @rule(data=DATA.filter(lambda data: len(data) <= BLOB_BYTES_MAX))
    def put_and_pin(self, data: bytes) -> None:
        digest = self.blobs.put(data)
        pin = Pin(name=digest.hex(), cid=Cid(Codec.RAW, digest), made_ms=TimeMs(0))
        self.pins.put(pin)
        self.pinned[pin.name] = data

    @precondition(lambda self: self.pinned)
    @rule(number=st.integers(0, 9))
    def unpin(self, number: int) -> None:
        name = sorted(self.pinned)[number % len(self.pinned)]
        assert self.pins.remove(name)
        del self.pinned[name]

    @rule(data=DATA.filter(lambda data: len(data) <= BLOB_BYTES_MAX))
    def put(self, data: bytes) -> None:
        self.blobs.put(data)

    @rule(grace_ms=st.sampled_from([0, 50]), passed=st.integers(0, 60))
    def collect(self, grace_ms: int, passed: int) -> None:
        self.now_ms += passed
        collector = Collector(self.home, self.blobs)
        with collector.alone():
            for steps in (collector.mark(self.now_ms), collector.note(self.now_ms)):
                for _ in steps:
                    pass
            for _ in collector.sweep(self.now_ms, grace_ms):
                pass

    @rule(path=NAMES, data=DATA, step=st.sampled_from(STEPS))
    def crash(self, path: str, data: bytes, step: str) -> None:
        def stop(done: str) -> None:
            if done == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            FileIndex(self.home, self.blobs, fault=stop).write_file(path, data)
        if step == "committed":
            self.files[path] = data
        self.restart()

    @rule()
    def restart(self) -> None:
        self.home.close()
        self.open()

    @invariant()
    def nothing_is_lost(self) -> None:
        assert {file.path: self.index.read_file(file.path) for file in self.index.list_files()} == self.files
        for data in self.pinned.values():
            assert self.blobs.get(content_hash(data)) == data


def test_a_machine_of_files_pins_and_crashes(tmp_path: Path) -> None:
    Machine.folders = (tmp_path / str(number) for number in range(10**6))
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
