"""A disk that refuses, at every write of everything that a store does: typed errors, and nothing else changed."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from agent_world.config import StorageConfig
from agent_world.crypto.hashing import content_hash
from agent_world.errors import (
    BlobHashMismatch,
    DiskReason,
    ErrorCode,
    HomeError,
    StoreFault,
    StoreNotReadable,
    StoreNotWritable,
)
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector
from agent_world.store.disk_faults import DiskFaults, Doing, not_readable, not_writable, sqlite_fault
from agent_world.store.file_index import Expect, FileIndex
from agent_world.store.file_manifest import export_manifest
from agent_world.store.home import Home
from agent_world.store.pins import Pin, PinTable
from agent_world.testing.faulty_disk import FaultyDisk
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.file_index import FileMetadata
from agent_world.wire.ids import TimeMs
from agent_world.wire.limits import BLOB_BYTES_MAX

NUMBERS = {
    errno.ENOSPC: DiskReason.FULL,
    errno.EROFS: DiskReason.READ_ONLY,
    errno.EACCES: DiskReason.DENIED,
    errno.EIO: DiskReason.BROKEN,
}
LARGE = 40_000
"""Bytes of a blob that is a file."""


class Rig:
    """A store on a disk that can refuse, and what must be in it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.disk = FaultyDisk(home.files.path)
        self.disk.wrap(home.database)
        # No sync of the whole file system: that call cannot be refused from here.
        self.blobs = LocalCasStore(home, StorageConfig(bulk_sync=False))
        self.index = FileIndex(home, self.blobs)
        self.pins = PinTable(home)
        self.files: dict[str, bytes] = {}
        self.pinned: dict[str, bytes] = {}

    def check(self) -> None:
        self.disk.mend()
        assert {file.path: self.index.read_file(file.path) for file in self.index.list_files()} == self.files
        assert {pin.name: self.blobs.get(pin.cid.digest) for pin in self.pins.iterate()} == self.pinned

    def collect(self) -> None:
        collector = Collector(self.home, self.blobs)
        with collector.alone():
            for steps in (collector.mark(0), collector.note(0), collector.sweep(0, 0)):
                for _ in steps:
                    pass

    def damage(self, data: bytes) -> None:
        path = self.home.files.blobs / content_hash(data).hex()[:2] / content_hash(data).hex()
        if path.exists():
            path.write_bytes(b"?" + data[1:])


@pytest.fixture
def rig(home: Home) -> Iterator[Rig]:
    made = Rig(home)
    with made.disk.active():
        yield made


def data_of(number: int, size: int) -> bytes:
    return b"%08d" % number + bytes([number % 251]) * (size - 8)


@attrs.frozen
class Step:
    """Something that a store does. Each is done again and again, with the disk refusing one write later each time."""

    name: str
    act: Callable[[Rig, int], Any]
    model: Callable[[Rig, int], Any] = lambda _rig, _number: None
    before: Callable[[Rig, int], Any] = lambda _rig, _number: None
    only_reads: bool = False
    """Whatever it writes by the way is not its caller's affair."""


def file_of(size: int) -> tuple[Callable[[Rig, int], Any], Callable[[Rig, int], Any]]:
    def act(rig: Rig, number: int) -> None:
        rig.index.write_file(f"f{size}", data_of(number, size))

    def model(rig: Rig, number: int) -> None:
        rig.files[f"f{size}"] = data_of(number, size)

    return act, model


def write_if_match(rig: Rig, number: int) -> None:
    there = rig.files.get("m")
    rig.index.write_file_if_match(
        "m", Expect.NOTHING_THERE if there is None else content_hash(there), data_of(number, LARGE)
    )


def pin(rig: Rig, number: int) -> None:
    cid = Cid(Codec.RAW, content_hash(data_of(number, 100)))
    rig.pins.put(Pin(name="p", cid=cid, made_ms=TimeMs(0)))


def put_file_and_model(rig: Rig, number: int) -> None:
    rig.disk.mend()
    rig.index.write_file("d", data_of(number, LARGE))
    rig.files["d"] = data_of(number, LARGE)


def put_garbage(rig: Rig, number: int) -> None:
    rig.blobs.put_many([data_of(number, LARGE), data_of(number, 90)])


def spoil(rig: Rig, number: int) -> None:
    rig.blobs.put(data_of(number, LARGE))
    rig.damage(data_of(number, LARGE))


def read_spoilt(rig: Rig, number: int) -> None:
    with pytest.raises(BlobHashMismatch):
        rig.blobs.get(data_hash(number, LARGE))


def pin_of(name: str) -> Pin:
    return Pin(name=name, cid=Cid(Codec.RAW, data_hash(1, 9)), made_ms=TimeMs(0))


def take_in(rig: Rig, files: list[FileMetadata]) -> None:
    rig.index.replace(lambda: iter(files))


def data_hash(number: int, size: int) -> Any:
    return content_hash(data_of(number, size))


STEPS = (
    Step("put a small blob", lambda rig, n: rig.blobs.put(data_of(n, 100))),
    Step("put a large blob", lambda rig, n: rig.blobs.put(data_of(n, LARGE))),
    Step("put many", lambda rig, n: rig.blobs.put_many([data_of(n, size) for size in (50, LARGE, LARGE + 1)])),
    Step("heal a large blob", lambda rig, n: rig.blobs.put(data_of(n, LARGE)), before=spoil),
    Step("read a damaged blob", read_spoilt, before=spoil, only_reads=True),
    Step("write a small file", *file_of(100)),
    Step("write a file of one blob file", *file_of(LARGE)),
    Step("write a file of chunks", *file_of(2 * BLOB_BYTES_MAX)),
    Step("write on condition", write_if_match, lambda rig, n: rig.files.update(m=data_of(n, LARGE))),
    Step("copy", lambda rig, _n: rig.index.copy("m", "c"), lambda rig, _n: rig.files.update(c=rig.files["m"])),
    Step(
        "pin",
        pin,
        lambda rig, n: rig.pinned.update(p=data_of(n, 100)),
        before=lambda rig, n: rig.blobs.put(data_of(n, 100)),
    ),
    Step("collect garbage", lambda rig, _n: rig.collect(), before=put_garbage),
    Step(
        "delete a file",
        lambda rig, n: rig.index.delete_file_if_match("d", data_hash(n, LARGE)),
        lambda rig, _n: rig.files.pop("d"),
        before=put_file_and_model,
    ),
    Step(
        "delete a blob",
        lambda rig, n: rig.blobs.delete(data_hash(n, LARGE)),
        before=lambda rig, n: rig.blobs.put(data_of(n, LARGE)),
    ),
    Step("export the index", lambda rig, _n: export_manifest(rig.index, rig.blobs)),
    Step("take in an index", lambda rig, _n: take_in(rig, [*rig.index.list_files()])),
    Step("unpin", lambda rig, _n: rig.pins.remove("p"), lambda rig, _n: rig.pinned.pop("p", None)),
)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("number", NUMBERS, ids=[errno.errorcode[number] for number in NUMBERS])
def test_every_write_of_everything_may_be_refused(rig: Rig, number: int, lasting: bool) -> None:
    salt = 0
    for step in STEPS:
        for writes in range(200):
            salt += 1
            step.before(rig, salt)
            rig.disk.break_after(writes, number, lasting=lasting)
            found: StoreNotWritable | None = None
            try:
                step.act(rig, salt)
            except StoreNotWritable as error:
                found = error
            else:
                step.model(rig, salt)
            refused = rig.disk.refused
            if found is not None:
                assert refused, step.name
                assert not step.only_reads, step.name
                assert (found.exit_code, found.wire_code) == (74, ErrorCode.NOT_AVAILABLE)
                if lasting:
                    assert found.reason is NUMBERS[number], step.name
                    assert rig.home.database.faults.present, step.name
            rig.check()
            if not refused:
                break
        else:
            raise AssertionError(f"{step.name} never ends")
        assert writes > 0, step.name  # something was refused
    rig.blobs.try_writing()
    assert rig.home.database.faults.present == ()
    rig.home.close()
    with Home.open(rig.home.files.path, rig.home.genesis_hash) as opened:
        again = Rig(opened)
        again.files, again.pinned = rig.files, rig.pinned
        again.check()


@pytest.mark.parametrize("number", NUMBERS, ids=[errno.errorcode[number] for number in NUMBERS])
def test_a_file_that_cannot_be_read_is_a_typed_error_and_good_bytes_heal_it(rig: Rig, number: int) -> None:
    small, large = data_of(1, 100), data_of(2, LARGE)
    rig.blobs.put_many([small, large])
    rig.disk.break_reads(number)
    with pytest.raises(StoreNotReadable) as caught:
        rig.blobs.get(content_hash(large))
    assert (caught.value.reason, caught.value.exit_code) == (NUMBERS[number], 74)
    assert rig.blobs.get_many([content_hash(small), content_hash(large)]) == {content_hash(small): small}
    assert [(fault.place, fault.doing) for fault in rig.home.database.faults.present] == [("blobs", Doing.READ)]
    assert rig.blobs.has(content_hash(large))  # it may be sound: nothing was set aside
    rig.blobs.put(large)
    assert rig.blobs.counters()["healed"] == 1
    rig.disk.mend()
    assert rig.blobs.get(content_hash(large)) == large
    assert rig.home.database.faults.present == ()


def test_a_refusal_that_nobody_passed_on_does_not_split_a_transaction(rig: Rig) -> None:
    """SQLite undoes the whole transaction on a full disk; what its caller writes next must not be kept alone."""

    def write() -> None:
        with rig.home.database.transaction():
            rig.pins.put(pin_of("first"))
            rig.disk.break_after(1, errno.ENOSPC, lasting=False)
            with pytest.raises(StoreNotWritable):
                rig.pins.put(pin_of("second"))
            rig.pins.put(pin_of("third"))

    with pytest.raises(StoreNotWritable, match="undone"):
        write()
    rig.disk.mend()
    assert list(rig.pins.iterate()) == []
    rig.pins.put(pin_of("fourth"))
    assert [pin.name for pin in rig.pins.iterate()] == ["fourth"]


def test_sqlite_itself_on_a_full_disk_and_on_one_that_takes_nothing(home: Home) -> None:
    pins = PinTable(home)
    pages = home.database.query("PRAGMA page_count")[0][0]
    home.database.query(f"PRAGMA max_page_count = {pages}")
    blobs = LocalCasStore(home)
    with pytest.raises(StoreNotWritable) as caught:
        blobs.put_many([data_of(number, 10_000) for number in range(50)])
    assert caught.value.reason is DiskReason.FULL
    home.database.query("PRAGMA max_page_count = 1000000")
    home.database.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreNotWritable) as caught:
        pins.put(pin_of("p"))
    assert caught.value.reason is DiskReason.READ_ONLY
    home.database.execute("PRAGMA query_only = OFF")
    blobs.put_many([data_of(number, 10_000) for number in range(50)])
    assert home.database.faults.present == ()
    assert blobs.usage().blobs == 50


def test_a_fault_is_shown_while_it_lasts() -> None:
    faults = DiskFaults()
    faults.wall_ms = iter([5, 9]).__next__
    for _ in range(2):
        with pytest.raises(StoreNotWritable), faults.writing("blobs", "cannot store"):
            raise OSError(errno.ENOSPC, "No space left on device")
    (shown,) = faults.shown()
    assert (shown["since_ms"], shown["times"], shown["reason"]) == (5, 2, "disk_full")
    assert "cannot store: No space left on device; free space" in shown["message"]
    faults.worked("blobs", Doing.READ)
    faults.worked("blobs", Doing.WRITE)
    assert faults.shown() == []
    assert faults.counters() == {"fault.blobs.write.disk_full": 2, "fault_passed.blobs.write": 1}


def test_a_file_that_is_not_there_is_no_fault() -> None:
    faults = DiskFaults()
    with pytest.raises(FileNotFoundError), faults.reading("blobs", "cannot be read"):
        raise FileNotFoundError
    assert faults.present == ()


@pytest.mark.parametrize(
    ("code", "doing", "kind"),
    [
        (sqlite3.SQLITE_FULL, Doing.READ, StoreNotWritable),
        (sqlite3.SQLITE_IOERR_READ, Doing.WRITE, StoreNotReadable),
        (sqlite3.SQLITE_IOERR_FSYNC, Doing.WRITE, StoreNotWritable),
        (sqlite3.SQLITE_IOERR_FSYNC, Doing.READ, StoreNotReadable),
        (sqlite3.SQLITE_CANTOPEN, Doing.READ, StoreNotReadable),
        (sqlite3.SQLITE_READONLY_DBMOVED, Doing.WRITE, StoreNotWritable),
        (sqlite3.SQLITE_CORRUPT, Doing.READ, None),
        (sqlite3.SQLITE_BUSY, Doing.WRITE, None),
    ],
)
def test_what_sqlite_says(code: int, doing: Doing, kind: type[StoreFault] | None) -> None:
    error = sqlite3.OperationalError("told")
    error.sqlite_errorcode = code
    found = sqlite_fault(Path("world.db"), error, doing)
    assert found is None if kind is None else type(found) is kind


def test_numbers_that_nobody_knows_are_a_broken_device() -> None:
    assert not_writable("w", OSError("odd")).reason is not_readable("r", OSError(99, "odd")).reason is DiskReason.BROKEN
    assert issubclass(StoreFault, HomeError)
