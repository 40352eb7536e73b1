from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.replication import OpenedRecord, commit_path, validate_and_advance
from agent_world.errors import ErrorCode, HomeError, LocalError, Refused, RemoteError
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from agent_world.store.replication import ACCEPT_STEPS, NOTE_STEPS, ReplicationStore
from agent_world.testing.record_log import EMPTY, WORLD, A, B, entry, guard, removal, written
from agent_world.wire.ids import U64, Hash32


def open_store(home: Home, fault: Callable[[str], None] = lambda _step: None, **options: Any) -> ReplicationStore:
    return ReplicationStore(home, LocalCasStore(home), WORLD, fault=fault, **options)


@pytest.fixture
def store(home: Home) -> ReplicationStore:
    return open_store(home)


def write(store: ReplicationStore, writer: Any, term: int, path: str, data: bytes = b"data") -> OpenedRecord:
    opened = written(store.guard(), writer, term, path, data)
    store.accept(opened, validate_and_advance(store.guard(), opened.record), data)
    return opened


def index(home: Home) -> dict[str, bytes]:
    return {path: cid[-32:] for path, cid in home.database.query("SELECT path, cid FROM file_index")}


def test_an_accepted_record_moves_all_of_it(home: Home, store: ReplicationStore) -> None:  # K-8.13
    assert (store.guard(), store.covered_height(), store.bounds()) == (EMPTY, 0, (1, 0))
    one = write(store, A, 1, commit_path(5), b"block")
    two = write(store, A, 1, "file")
    assert store.guard() == guard(A, 1, 2)
    assert store.records_after((0, 0)) == (one.data, two.data)
    assert store.records_after((1, 1)) == (two.data,)
    assert store.records_after((0, 0), 1) == (one.data,)
    assert (store.commit_record(5), store.commit_record(6)) == (one.data, None)
    assert (store.record_at((1, 2)), store.record_at((2, 1))) == (two.data, None)
    assert index(home) == {commit_path(5): content_hash(b"block"), "file": content_hash(b"data")}
    assert LocalCasStore(home).get(content_hash(b"block")) == b"block"
    assert (store.covered_height(), store.bounds()) == (5, (1, 2))
    sampled = [store.sample(position) for position in (1, 2, 3)]
    assert [None if found is None else found.path for found in sampled] == [commit_path(5), "file", None]


def test_nothing_is_accepted_that_is_not_next(home: Home, store: ReplicationStore) -> None:
    one = write(store, A, 1, "file")
    with pytest.raises(Refused):
        store.accept(one, guard(A, 1, 1), b"data")
    three = written(guard(A, 1, 2), A, 1, "three")
    with pytest.raises(Refused):
        store.accept(three, guard(A, 1, 3), b"data")
    two = written(guard(A, 1, 1), A, 1, "two")
    with pytest.raises(LocalError):
        store.accept(two, guard(A, 1, 3), b"data")
    assert store.guard() == guard(A, 1, 1)
    assert list(index(home)) == ["file"]


def test_what_the_next_writer_had_never_got_is_void(home: Home, store: ReplicationStore) -> None:
    write(store, A, 1, "kept", b"old")
    for path, data in (("kept", b"new"), ("gone", b"gone"), ("kept", b"newer")):
        write(store, A, 1, path, data)
    taken_over = written(guard(A, 1, 1), B, 2, "next")
    store.accept(taken_over, guard(B, 2, 1), b"data")
    assert index(home) == {"kept": content_hash(b"old"), "next": content_hash(b"data")}
    assert len(store.records_after((0, 0))) == 2
    assert store.voided == 3
    assert store.bounds()[1] - store.bounds()[0] == 1


def test_a_writer_that_had_all_makes_nothing_void(home: Home, store: ReplicationStore) -> None:
    write(store, A, 1, "one")
    write(store, B, 2, "two")
    write(store, A, 3, "three")
    assert (sorted(index(home)), store.voided, store.guard()) == (["one", "three", "two"], 0, guard(A, 3, 1))


def test_the_outbox_is_in_order_and_an_entry_leaves_when_it_is_published(store: ReplicationStore) -> None:  # K-8.1
    assert store.note([entry(commit_path(height), b"%d" % height) for height in (5, 6, 7)]) == 3
    store.queue_file(entry("file"))
    assert store.note([entry(commit_path(7), b"7")]) == 1  # known already
    assert [item.entry.path for item in store.outgoing(10)] == [*map(commit_path, (5, 6, 7)), "file"]
    assert (store.outbox_size(), store.noted_height(), store.covered_height()) == (4, 7, 0)
    for item in store.outgoing(2):
        data = b"%d" % (5 if item.entry.path == commit_path(5) else 6)
        opened = written(store.guard(), A, 1, item.entry.path, data)
        store.accept(opened, validate_and_advance(store.guard(), opened.record), data, published=item.position)
    assert [item.entry.path for item in store.outgoing(10)] == [commit_path(7), "file"]
    assert (store.noted_height(), store.covered_height(), store.overtaken) == (7, 6, 0)


def test_what_waits_is_named_for_whoever_removes_content(store: ReplicationStore) -> None:  # I-3
    entries = [entry(f"file {number}", b"%d" % number) for number in range(600)]
    assert store.note(entries) == 600
    assert list(store.waiting()) == entries


def test_an_index_of_more_than_a_page_comes_in_order(store: ReplicationStore) -> None:
    with store.together():
        entries = [write(store, A, 1, f"file {number:03}", b"%d" % number).entry for number in range(600)]
    assert [(file.path, file.content) for file in store.indexed()] == [(item.path, item.content) for item in entries]


def test_two_writes_of_one_path_are_two_entries(store: ReplicationStore) -> None:
    store.queue_file(entry("file", b"1"))
    store.queue_file(entry("file", b"2"))
    first, second = store.outgoing(10)
    opened = written(EMPTY, A, 1, "file", b"1")
    store.accept(opened, guard(A, 1, 1), b"1", published=first.position)
    assert store.outgoing(10) == (second,)


def test_another_writers_record_takes_the_place_of_what_waits(store: ReplicationStore) -> None:
    store.note([entry(commit_path(5), b"5")])
    store.queue_file(entry("file", b"mine"))
    store.queue_file(entry("other", b"mine"))
    write(store, B, 1, commit_path(5), b"5")
    write(store, B, 1, "file", b"theirs")
    assert [item.entry.path for item in store.outgoing(10)] == ["other"]
    assert store.overtaken == 2


def remove(store: ReplicationStore, writer: Any, term: int, path: str, **options: Any) -> OpenedRecord:
    opened = removal(store.guard(), writer, term, path)
    store.accept(opened, validate_and_advance(store.guard(), opened.record), b"", **options)
    return opened


def test_a_removal_takes_the_path_away_and_has_its_place(home: Home, store: ReplicationStore) -> None:
    write(store, A, 1, "file", b"1")
    write(store, A, 1, "kept", b"2")
    gone = remove(store, A, 1, "file")
    assert (index(home), store.guard()) == ({"kept": content_hash(b"2")}, guard(A, 1, 3))
    assert store.record_at((1, 3)) == gone.data
    remove(store, A, 1, "never there")
    assert [None if found is None else found.path for found in map(store.sample, (1, 2, 3))] == ["kept", "kept", None]
    write(store, A, 1, "file", b"again")
    assert index(home)["file"] == content_hash(b"again")


def test_a_removal_that_the_next_writer_never_got_is_undone(home: Home, store: ReplicationStore) -> None:
    write(store, A, 1, "file", b"1")
    write(store, A, 1, "other", b"2")
    remove(store, A, 1, "other")
    remove(store, A, 1, "file")
    opened = written(guard(A, 1, 3), B, 2, "new", b"3")
    store.accept(opened, validate_and_advance(store.guard(), opened.record), b"3")
    assert index(home) == {"file": content_hash(b"1"), "new": content_hash(b"3")}


def test_what_is_published_late_does_not_set_the_index_back(home: Home, store: ReplicationStore) -> None:
    for data in (b"1", b"2"):
        store.queue_file(entry("file", data))
    store.queue_file(entry("file", content=None, size_bytes=U64(0)))
    first, second, third = (item.position for item in store.outgoing(9))
    for position, data in ((first, b"1"), (second, b"2")):
        opened = written(store.guard(), A, 1, "file", data)
        store.accept(opened, validate_and_advance(store.guard(), opened.record), data, published=position)
        assert index(home) == {}
    assert store.outgoing(9)[0].entry.content is None
    remove(store, A, 1, "file", published=third)
    assert (index(home), store.outbox_size()) == ({}, 0)


def test_a_full_outbox_takes_no_more_and_loses_nothing(home: Home) -> None:
    store = open_store(home, outbox_max=3)
    assert store.note([entry(commit_path(height)) for height in range(1, 9)]) == 3
    assert store.noted_height() == 3
    with pytest.raises(Refused) as caught:
        store.queue_file(entry("file"))
    assert caught.value.code is ErrorCode.BUSY
    assert index(home) == {}
    opened = written(EMPTY, A, 1, commit_path(1))
    store.accept(opened, guard(A, 1, 1), b"data", published=store.outgoing(1)[0].position)
    store.queue_file(entry("file"))
    assert [item.entry.path for item in store.outgoing(9)] == [commit_path(2), commit_path(3), "file"]


def test_commits_are_not_written_by_hand(home: Home, store: ReplicationStore) -> None:
    with pytest.raises(Refused, match="by commits only"):
        store.queue_file(entry(commit_path(1)))
    with pytest.raises(RemoteError, match="W4"):
        store.queue_file(entry("../x"))
    assert (index(home), store.outbox_size()) == ({}, 0)


def all_of(store: ReplicationStore, home: Home) -> tuple[Any, ...]:
    outbox = tuple(item.entry.path for item in store.outgoing(99))
    return (store.guard(), store.records_after((0, 0)), tuple(sorted(index(home))), outbox)


def test_a_crash_at_any_write_leaves_the_old_or_the_new(  # T-9.11, K-8.13
    home_path: Path, genesis: Hash32, crash_images: Any
) -> None:
    with Home.open(home_path, genesis) as home:
        store = open_store(home)
        write(store, A, 1, "kept", b"old")
        write(store, A, 1, "void", b"void")
        before = all_of(store, home)
        store = open_store(home, fault=crash_images)
        store.note([entry(commit_path(8), b"8")])
        noted = all_of(store, home)
        taken_over = written(guard(A, 1, 1), B, 2, commit_path(8), b"8")
        store.accept(taken_over, guard(B, 2, 1), b"8", published=store.outgoing(1)[0].position)
        after = all_of(store, home)
    assert len({before, noted, after}) == 3
    assert tuple(crash_images.taken) == (*NOTE_STEPS, *ACCEPT_STEPS)
    expected = dict.fromkeys(NOTE_STEPS[:2], before) | dict.fromkeys((NOTE_STEPS[2], *ACCEPT_STEPS[:-1]), noted)
    expected[ACCEPT_STEPS[-1]] = after
    for step, image in crash_images.taken.items():
        with Home.open(image, genesis) as home:
            store = open_store(home)
            found = all_of(store, home)
            assert found == expected[step], step
            if step in ACCEPT_STEPS[:-1]:  # and it goes on from there
                store.accept(taken_over, guard(B, 2, 1), b"8", published=store.outgoing(1)[0].position)
                assert all_of(store, home) == after


def test_damaged_rows_are_named(home: Home, store: ReplicationStore) -> None:
    write(store, A, 1, "file")
    store.queue_file(entry("other"))
    home.database.execute("UPDATE replication_records SET record = x'00'")
    home.database.execute("UPDATE replication_outbox SET cid = x'00'")
    with pytest.raises(HomeError, match="log is damaged"):
        store.sample(1)
    with pytest.raises(HomeError, match="outbox is damaged"):
        store.outgoing(1)
