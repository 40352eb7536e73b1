"""The file index: compare-and-set across threads and processes (T-2.2, T-2.3, T-2.4, T-2.5, T-2.6, T-2.7), crashes.

T-2.8, a hash that is none, is refused where hashes are read: tests/unit/wire and tests/unit/node.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from agent_world.config import StorageConfig
from agent_world.crypto.hashing import content_hash, hash32
from agent_world.errors import (
    BlobHashMismatch,
    ErrorCode,
    FileConflict,
    FileMissing,
    HomeError,
    Refused,
    StoreFull,
    UsageError,
)
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector
from agent_world.store.file_index import PAGE_ROWS, Expect, FileIndex
from agent_world.store.file_update import update_file
from agent_world.store.home import Home
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.limits import BLOB_BYTES_MAX

GENESIS = hash32(b"genesis")
STEPS = ("checked", "blobs_inserted", "row_written", "committed")


@pytest.fixture
def blobs(home: Home) -> LocalCasStore:
    return LocalCasStore(home)


@pytest.fixture
def index(home: Home, blobs: LocalCasStore) -> FileIndex:
    return FileIndex(home, blobs)


def paths(index: FileIndex, prefix: str = "") -> list[str]:
    return [file.path for file in index.list_files(prefix)]


def test_t_2_2_a_file_is_written_read_and_overwritten(index: FileIndex, blobs: LocalCasStore) -> None:
    """T-2.2: hash and size are the new ones, ``updated_at_ms`` never falls, and the old blob remains."""
    blobs.wall_ms = lambda: 50
    first = index.write_file("./a//file.txt", b"one")
    assert (first.path, first.content_hash, first.size_bytes) == ("a/file.txt", content_hash(b"one"), 3)
    assert (index.read_file("a/file.txt"), index.stat_file("a/./file.txt")) == (b"one", first)
    blobs.wall_ms = lambda: 40  # a clock that was set back
    second = index.write_file("a/file.txt", b"three")
    assert (second.content_hash, second.size_bytes, second.updated_at_ms) == (content_hash(b"three"), 5, 50)
    assert blobs.has(first.content_hash)
    assert index.count() == 1


@pytest.mark.parametrize("size", [0, 1, BLOB_BYTES_MAX, BLOB_BYTES_MAX + 1, 3 * BLOB_BYTES_MAX + 5])
def test_files_of_any_size(index: FileIndex, size: int) -> None:
    data = os.urandom(size)
    file = index.write_file("f", data)
    assert file.content.codec is (Codec.RAW if size <= BLOB_BYTES_MAX else Codec.DAG_CBOR)
    assert (index.read_file("f"), file.size_bytes) == (data, size)
    assert b"".join(index.read_parts("f", 3, size - 2)) == data[3 : max(0, size - 2)]


def test_t_2_3_deleting_removes_the_mapping_only(index: FileIndex, blobs: LocalCasStore) -> None:
    """T-2.3: the second delete is False, and a read is an error."""
    file = index.write_file("f", b"data")
    assert [index.delete_file("f"), index.delete_file("f")] == [True, False]
    assert index.stat_file("f") is None
    with pytest.raises(FileMissing):
        index.read_file("f")
    assert blobs.has(file.content_hash)


def test_t_2_4_listing_is_sorted_by_bytes_and_by_prefix(index: FileIndex) -> None:
    """T-2.4: and has paths in their one form."""
    names = ["b", "a/z", "a-b", "a", "ab", "a/b/c", "é", "a/\U0010ffff"]
    for name in names:
        index.write_file(name, name.encode())
    assert paths(index) == sorted(names, key=str.encode)
    assert paths(index, "a/") == ["a/b/c", "a/z", "a/\U0010ffff"]
    assert [file.path for file in index.list_files("a", after="a/b/c")] == ["a/z", "a/\U0010ffff", "ab"]
    assert paths(index, "c") == []
    index.write_file("./c//file.txt", b"x")
    assert paths(index, "c") == ["c/file.txt"]


def test_more_files_than_a_page(index: FileIndex, blobs: LocalCasStore) -> None:
    file = index.write_file("f", b"same")
    for number in range(PAGE_ROWS + 7):
        index.put_content(f"many/{number:05}", None, file.content, 4)
    assert paths(index, "many/") == [f"many/{number:05}" for number in range(PAGE_ROWS + 7)]


def test_t_2_5_every_operation_refuses_what_is_no_path(index: FileIndex) -> None:
    """T-2.5: write, read, delete and stat alike."""
    for path in ("", "/", "/root.txt", "..", "../a.txt", "a/../../b"):
        calls: list[Callable[[], Any]] = [
            lambda path=path: index.write_file(path, b""), lambda path=path: index.read_file(path),
            lambda path=path: index.delete_file(path), lambda path=path: index.stat_file(path),
            lambda path=path: index.write_file_if_match(path, Expect.NOTHING_THERE, b""),
            lambda path=path: index.delete_file_if_match(path, ContentHash(bytes(32))),
        ]  # type: ignore[misc]  # fmt: skip
        for call in calls:
            with pytest.raises(UsageError):
                call()


def test_t_2_6_a_write_on_condition(index: FileIndex, blobs: LocalCasStore) -> None:
    """T-2.6: the right hash, a stale one, and one where nothing is; what fails stores nothing, no blob either."""
    one, two = content_hash(b"one"), content_hash(b"two")
    with pytest.raises(FileConflict) as caught:
        index.write_file_if_match("f", one, b"two")
    assert (caught.value.current, index.stat_file("f"), blobs.has(two)) == (None, None, False)
    index.write_file_if_match("f", Expect.NOTHING_THERE, b"one")
    with pytest.raises(FileConflict) as caught:
        index.write_file_if_match("f", Expect.NOTHING_THERE, b"two")
    assert caught.value.current == one
    with pytest.raises(FileConflict, match=one.hex()):
        index.write_file_if_match("f", two, b"two")
    assert not blobs.has(two)
    assert index.write_file_if_match("f", one, b"two").content_hash == two
    index.write_file_if_match("f", None, b"three")
    assert index.read_file("f") == b"three"


def test_t_2_7_a_delete_on_condition(index: FileIndex) -> None:
    """T-2.7: a stale hash leaves the file, the right one removes it, and what is not there is False without one."""
    index.write_file("f", b"one")
    with pytest.raises(FileConflict):
        index.delete_file_if_match("f", content_hash(b"stale"))
    assert index.read_file("f") == b"one"
    assert index.delete_file_if_match("f", content_hash(b"one"))
    with pytest.raises(FileConflict) as caught:
        index.delete_file_if_match("f", content_hash(b"one"))
    assert caught.value.current is None
    assert not index.delete_file_if_match("f", None)


def test_copying_moves_no_content(index: FileIndex, blobs: LocalCasStore) -> None:
    file = index.write_file("f", b"one")
    before = blobs.usage()
    assert index.copy("f", "g").content == file.content
    assert blobs.usage() == before
    with pytest.raises(FileConflict):
        index.copy("f", "g", Expect.NOTHING_THERE)
    with pytest.raises(FileMissing):
        index.copy("none", "h")
    with pytest.raises(FileMissing):
        index.put_content("h", None, Cid(Codec.RAW, content_hash(b"nowhere")), 7)
    assert paths(index) == ["f", "g"]


def test_the_same_content_at_many_paths_while_a_collection_marks(home: Home, index: FileIndex) -> None:
    collector = Collector(home, LocalCasStore(home))
    with collector.alone():
        for _ in collector.mark(1):
            pass
        for data in (b"one", b"two", b"one"):
            index.write_file("f", data)
            index.write_file("g", data)
        assert home.database.query("SELECT count(*) FROM gc_new_roots") == [(2,)]


def test_what_belongs_to_the_record_log_is_hidden_and_stays(home: Home, index: FileIndex) -> None:
    file = index.write_file("f", b"one")
    home.database.execute("INSERT INTO file_index VALUES ('consensus/commits/1', ?, 3, 1)", (file.content.to_bytes(),))
    assert (paths(index), paths(index, "consensus/"), index.count()) == (["f"], ["consensus/commits/1"], 1)
    for change in (index.write_file, index.delete_file_if_match):
        with pytest.raises(UsageError):
            change("consensus/commits/1", None)  # type: ignore[operator]
    index.replace(lambda: iter(()))
    assert (paths(index), index.read_file("consensus/commits/1")) == ([], b"one")


def test_an_index_that_is_taken_in_tells_of_what_changes_and_can_be_refused(home: Home, index: FileIndex) -> None:
    for path in ("changed", "gone", "same"):
        index.write_file(path, b"old")
    coming = [index.need("same"), attrs.evolve(index.need("changed"), content=index.write_file("new", b"new").content)]
    index.delete_file("new")
    coming.append(attrs.evolve(coming[1], path="new"))
    told: list[tuple[str, str]] = []
    index.written = lambda file: told.append(("written", file.path))
    index.removed = lambda file, at_ms: told.append(("removed", file.path))
    allow = index.check_writer

    def refuse(path: str) -> None:
        if path == "gone":
            raise Refused(ErrorCode.UNAUTHORIZED, path)

    index.check_writer = refuse
    with pytest.raises(Refused):
        index.replace(lambda: iter(coming))
    assert {path: index.read_file(path) for path in paths(index)} == dict.fromkeys(("changed", "gone", "same"), b"old")
    told.clear()
    index.check_writer = allow
    assert index.replace(lambda: iter(coming)) == 3
    assert told == [("written", "changed"), ("written", "new"), ("removed", "gone")]
    assert {path: index.read_file(path) for path in paths(index)} == {"changed": b"new", "new": b"new", "same": b"old"}


def test_damaged_content_is_an_error_and_the_index_as_it_was(home: Home, index: FileIndex) -> None:
    file = index.write_file("f", b"one")
    home.database.execute("UPDATE blobs SET data = x'00'")
    with pytest.raises(BlobHashMismatch):
        index.read_file("f")
    assert index.stat_file("f") == file
    index.write_file("f", b"one")
    assert index.read_file("f") == b"one"


def test_above_the_quota_nothing_is_written(home: Home) -> None:
    index = FileIndex(home, LocalCasStore(home, StorageConfig(quota_bytes=10)))
    index.write_file("f", b"12345678")
    with pytest.raises(StoreFull):
        index.write_file("g", b"123")
    assert paths(index) == ["f"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("size", [5, 40_000, 2 * BLOB_BYTES_MAX])
def test_a_crash_at_every_step_leaves_the_old_or_the_new_file(
    home: Home, blobs: LocalCasStore, step: str, size: int
) -> None:
    FileIndex(home, blobs).write_file("f", b"old")

    def crash(done: str) -> None:
        if done == step:
            raise KeyboardInterrupt

    new = bytes([7]) * size
    with pytest.raises(KeyboardInterrupt):
        FileIndex(home, blobs, fault=crash).write_file("f", new)
    home.close()
    with Home.open(home.files.path, GENESIS) as opened:
        again = FileIndex(opened, LocalCasStore(opened))
        assert again.read_file("f") == (new if step == "committed" else b"old")


@pytest.mark.parametrize("fault", ["blob_files_written", "blob_files_renamed", "blob_files_durable"])
def test_a_full_disk_at_any_write_leaves_the_old_file(home: Home, fault: str) -> None:
    def full(step: str) -> None:
        if step == fault:
            raise HomeError("no space left")

    FileIndex(home, LocalCasStore(home)).write_file("f", b"old")
    index = FileIndex(home, LocalCasStore(home, fault=full))
    with pytest.raises(HomeError):
        index.write_file("f", bytes(40_000))
    assert index.read_file("f") == b"old"


def count(data: bytes | None) -> bytes:
    return str(int(data or b"0") + 1).encode()


def _increment(path: Path, seed: int, times: int, total: Any) -> None:
    """Another process: adds 1 to files drawn by chance."""
    rng = Random(seed)
    with Home.shared(path, GENESIS) as home:
        index = FileIndex(home, LocalCasStore(home))
        conflicts = 0
        for _ in range(times):
            conflicts += update_file(index, f"f/{rng.randrange(4)}", count, threading.Event().wait, rng)[1]
        with total.get_lock():
            total.value += conflicts


def test_no_update_of_two_processes_is_lost(home_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    conflicts = context.Value("i", 0)
    writers = [context.Process(target=_increment, args=(home_path, seed, 150, conflicts)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    with Home.open(home_path, GENESIS) as home:
        index = FileIndex(home, LocalCasStore(home))
        assert sum(int(index.read_file(path)) for path in paths(index)) == 300
        assert list(Path(home_path / "blobs").rglob(".tmp-*")) == []


def test_no_update_of_two_threads_is_lost(home_path: Path) -> None:
    threads = [
        threading.Thread(target=_increment, args=(home_path, seed, 60, multiprocessing.Value("i", 0)))
        for seed in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Home.open(home_path, GENESIS) as home:
        index = FileIndex(home, LocalCasStore(home))
        assert sum(int(index.read_file(path)) for path in paths(index)) == 120


def test_a_node_and_others_exclude_each_other(home_path: Path) -> None:
    with Home.shared(home_path, GENESIS), Home.shared(home_path), pytest.raises(HomeError, match="in use"):
        Home.open(home_path, GENESIS)
    with Home.open(home_path, GENESIS), pytest.raises(HomeError, match="in use"):
        Home.shared(home_path, GENESIS)
