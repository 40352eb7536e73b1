"""Garbage collection: nothing reachable goes, all else goes in time (I-3, T-2.10, T-2.15, T-9.12)."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from collector_rig import LARGE, Rig, run

from agent_world.config import StorageConfig
from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import BlobNotFound, Refused, StoreFull
from agent_world.store import schema
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Garbage
from agent_world.store.content import ContentTable
from agent_world.store.database import Database
from agent_world.store.home import Home, HomeLayout
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec, ContentHash


@pytest.fixture
def rig(home: Home) -> Rig:
    return Rig(home)


def test_what_roots_reach_stays_and_the_rest_goes(rig: Rig) -> None:
    leaf, other = rig.raw(b"leaf" * LARGE), rig.raw(b"other" * LARGE)
    middle = rig.node(leaf)
    root = rig.node(middle)
    rig.pin("a", root)
    freed = rig.collect()
    assert freed == Garbage(1, 5 * LARGE)
    assert rig.here(leaf, middle, root, other) == [True, True, True, False]
    assert not any(content_hash(b"other" * LARGE).hex() in str(path) for path in rig.home.files.blobs.rglob("*"))
    rig.pins.remove("a")
    assert rig.collect().items == 3


@pytest.mark.parametrize("root", ["pin", "index", "outbox", "content", "live"])
def test_every_kind_of_root_keeps_what_it_reaches(rig: Rig, root: str) -> None:
    leaf = rig.raw(b"leaf")
    top = rig.node(leaf)
    match root:
        case "pin":
            rig.pin("a", top)
        case "index":
            rig.index("a/b", top)
        case "outbox":  # alone: the row in the index has been replaced since
            rig.home.database.execute(
                "INSERT INTO replication_outbox (path, cid, size_bytes, updated_at_ms) VALUES ('a', ?, 1, 1)",
                (top.to_bytes(),),
            )
        case "content":
            ContentTable(rig.home).want([(top, 5)], rig.now_ms)
        case _:
            rig.live.append(top)
    assert rig.collect() == Garbage()
    assert rig.here(leaf, top) == [True, True]


def test_a_direct_pin_keeps_one_blob_and_an_expired_one_none(rig: Rig) -> None:
    leaf, old = rig.raw(b"leaf"), rig.raw(b"old")
    top = rig.node(leaf)
    rig.pin("direct", top, recursive=False)
    rig.pin("expired", old, expires_ms=rig.now_ms)
    rig.collect()
    assert rig.here(leaf, top, old) == [False, True, False]


def test_what_the_chain_has_stored_is_never_a_candidate(rig: Rig) -> None:
    kept, both = rig.blobs.put(b"kept", kept=True), rig.blobs.put(b"both")
    rig.blobs.put(b"both", kept=True)
    rig.blobs.put(b"kept")
    assert rig.collect() == Garbage()
    assert rig.blobs.has_many([kept, both]) == {kept, both}
    assert rig.blobs.usage().kept_bytes == rig.blobs.usage().size_bytes == 8


def test_only_the_live_state_is_followed_through_the_chain(rig: Rig) -> None:
    """A path for each committed block is not a walk for each."""
    leaf, old_leaf = rig.raw(b"leaf"), rig.raw(b"old")
    tops = [cbor.encode({"links": [cid]}) for cid in (leaf, old_leaf)]
    rig.blobs.put_many(tops, kept=True)
    rig.live.append(cid_of(tops[0]))
    rig.index("consensus/commits/1", cid_of(tops[1]))
    assert rig.collect() == Garbage(1, 3)
    assert rig.here(leaf, old_leaf) == [True, False]


def test_a_damaged_part_of_the_chain_is_the_chains_again_once_healed(rig: Rig) -> None:
    kept = rig.blobs.put(b"kept", kept=True)
    rig.home.database.execute("UPDATE blobs SET data = x'00' WHERE content_hash = ?", (kept,))
    assert rig.blobs.get_many([kept]) == {}
    rig.blobs.put(b"kept")
    assert rig.collect() == Garbage()
    assert rig.blobs.has(kept)


def test_garbage_waits_for_its_grace_counted_from_when_it_was_first_seen(rig: Rig) -> None:
    old = rig.raw(b"old")
    assert rig.collect(grace_ms=100) == Garbage()
    rig.now_ms += 99
    young = rig.raw(b"young")
    assert rig.collect(grace_ms=100) == Garbage()
    rig.now_ms += 1
    assert rig.collect(grace_ms=100) == Garbage(1, 3)
    assert rig.here(old, young) == [False, True]


@pytest.mark.parametrize("touch", ["put", "put_many", "pin and unpin"])
def test_touching_garbage_starts_its_grace_anew(rig: Rig, touch: str) -> None:
    item = rig.raw(b"item")
    rig.collect(grace_ms=100)
    rig.now_ms += 90
    if touch == "put":
        rig.blobs.put(b"item")
    elif touch == "put_many":
        rig.blobs.put_many([b"new", b"item"])
    else:
        rig.pin("a", item)
        rig.collect(grace_ms=100)
        rig.pins.remove("a")
    rig.now_ms += 20
    rig.collect(grace_ms=100)
    assert rig.here(item) == [True]
    rig.now_ms += 100
    assert rig.collect(grace_ms=100).items >= 1
    assert rig.here(item) == [False]


def test_a_root_that_comes_between_mark_and_sweep_keeps_what_it_reaches(rig: Rig) -> None:
    leaves = [rig.raw(b"leaf %d" % number) for number in range(4)]
    tops = [rig.node(leaf) for leaf in leaves]
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        run(collector.note(rig.now_ms))
        rig.pin("late", tops[0])
        rig.index("late", tops[1])
        ContentTable(rig.home).want([(tops[2], 1)], rig.now_ms)
        rig.live.append(tops[3])
        run(collector.sweep(rig.now_ms, 0))
    assert rig.here(*leaves, *tops) == [True] * 8


def test_a_late_root_with_much_below_it_is_followed_before_the_sweep_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_world.store.collector.LATE_READS_MAX", 3)
    leaf = rig.raw(b"leaf")
    top = rig.tower(leaf, 40)
    garbage = rig.raw(b"garbage")
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        run(collector.note(rig.now_ms))
        rig.index("late", top)
        run(collector.sweep(rig.now_ms, 0))
    assert rig.here(leaf, top, garbage) == [True, True, False]


def test_what_is_put_again_during_a_sweep_stays(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_world.store.collector.SWEEP_AT_ONCE", 1)
    items = [rig.raw(b"item %d" % number) for number in range(5)]
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        run(collector.note(rig.now_ms))
        with closing(collector.sweep(rig.now_ms, 0)) as sweep:  # type: ignore[type-var]
            next(sweep)
            rig.blobs.put_many(b"item %d" % number for number in range(5))
            run(sweep)
    assert rig.here(*items) == [True] * 5


def test_prune_to_a_size_takes_the_oldest_first_and_nothing_that_is_pinned(rig: Rig) -> None:
    items = [rig.raw(bytes([number]) * 100) for number in range(6)]
    rig.pin("second", items[1])
    assert rig.collect(down_to_bytes=600) == Garbage()
    assert rig.collect(down_to_bytes=350) == Garbage(3, 300)
    assert rig.here(*items) == [False, True, False, False, True, True]
    assert rig.collect(down_to_bytes=0) == Garbage(2, 200)
    assert rig.collect(down_to_bytes=0) == Garbage()


def test_damaged_and_missing_links_are_counted_and_end_no_collection(rig: Rig) -> None:
    nowhere = cid_of(b"nowhere")
    not_cbor = Cid(Codec.DAG_CBOR, rig.blobs.put(b"\xff\xff"))
    damaged = rig.node(salt=9)
    leaf = rig.raw(b"leaf")
    top = rig.node(nowhere, not_cbor, damaged, leaf)
    rig.pin("a", top)
    rig.home.database.execute("UPDATE blobs SET data = x'00' WHERE content_hash = ?", (damaged.digest,))
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        assert collector.missing == 2
        run(collector.note(rig.now_ms))
        run(collector.sweep(rig.now_ms, 0))
    assert rig.here(top, leaf, not_cbor) == [True, True, True]


def test_one_blob_is_removed_unless_something_reaches_it(rig: Rig) -> None:
    leaf, free = rig.raw(b"leaf"), rig.raw(b"free")
    rig.index("a/b", rig.node(leaf))
    kept = rig.blobs.put(b"kept", kept=True)
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        assert [collector.remove(item) for item in (leaf.digest, free.digest, kept)] == [False, True, False]
        told = [next(filter(None, collector.holders(item, rig.now_ms))) for item in (leaf.digest, kept)]
    assert told == ["file 'a/b' reaches it", "it is part of the chain"]
    assert rig.here(leaf, free) == [True, False]


def test_one_collection_at_a_time(rig: Rig) -> None:
    with rig.collector().alone(), pytest.raises(Refused, match="ERR_BUSY"), rig.collector().alone():
        pass
    with rig.collector().alone():
        pass


def test_a_killed_collection_leaves_nothing_that_hinders_the_next(rig: Rig) -> None:
    item = rig.raw(b"item")
    collector = rig.collector()
    run(collector.mark(rig.now_ms))
    rig.pin("a", item)
    assert rig.home.database.query("SELECT count(*) FROM gc_new_roots") == [(1,)]
    assert rig.collect() == Garbage()
    assert rig.home.database.query("SELECT count(*) FROM gc_new_roots") == [(0,)]
    rig.pins.remove("a")
    assert rig.collect().items == 1


def test_above_the_quota_only_the_chain_may_store_more(home: Home) -> None:
    rig = Rig(home, StorageConfig(quota_bytes=100))
    rig.blobs.put(bytes(60))
    rig.blobs.put(bytes(500), kept=True)
    with pytest.raises(StoreFull, match="quota"):
        rig.blobs.put(bytes(41))
    rig.blobs.put(bytes(40))
    rig.blobs.put(bytes(60))  # what is here costs nothing
    assert rig.blobs.counters()["refused_full"] == 1
    rig.collect()
    rig.blobs.put(bytes(41))


def test_files_without_rows_go_when_they_are_old(rig: Rig) -> None:
    digest = rig.blobs.put(bytes(LARGE))
    rig.home.database.execute("DELETE FROM blobs")
    assert rig.blobs.remove_orphan_files(older_than_s=60) == 0
    assert rig.blobs.remove_orphan_files() == 1
    with pytest.raises(BlobNotFound):
        rig.blobs.get(digest)


def test_a_put_whose_blob_is_swept_between_its_steps_stores_it_again(rig: Rig) -> None:
    """The second writer has found the blob here; before it commits, a collection takes it."""
    data = {content_hash(item): item for item in (b"small", bytes(LARGE))}
    rig.blobs.put_many(data.values())
    staged = rig.blobs.stage(data)
    run(staged.write())
    rig.collect()
    assert rig.blobs.commit(staged.prepared) == data.keys()
    rig.blobs.put_many(data.values())
    assert rig.blobs.get_many(data) == data


def test_a_file_that_is_swept_between_its_writing_and_its_row_is_written_again(rig: Rig) -> None:
    data = {content_hash(bytes(LARGE)): bytes(LARGE)}
    staged = rig.blobs.stage(data)
    run(staged.write())
    rig.blobs.put_many(data.values())  # another process, which was quicker
    rig.collect()
    assert rig.blobs.commit(staged.prepared) == data.keys()
    assert not rig.blobs.has_many(data)


def test_what_a_killed_sweep_has_left_without_its_file_is_not_taken_for_stored(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has found the blob whole, and relies on it after the sweep has removed its file and was killed."""
    data = {content_hash(bytes(LARGE)): bytes(LARGE)}
    rig.blobs.put_many(data.values())
    staged = rig.blobs.stage(data)
    run(staged.write())

    with killed_after_the_first_file(rig, monkeypatch):
        rig.collect()
    assert rig.blobs.commit(staged.prepared) == data.keys()
    rig.blobs.put_many(data.values())
    assert rig.blobs.get_many(data) == data


class Killed(BaseException):
    pass


@contextmanager
def killed_after_the_first_file(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def killed(_store: LocalCasStore, digests: list[ContentHash]) -> int:
        rig.blobs._files.delete(digests[0])
        raise Killed

    with monkeypatch.context() as patched, suppress(Killed):
        patched.setattr(LocalCasStore, "sweep", killed)
        yield


def test_what_a_killed_removal_has_left_without_its_file_is_not_found_here(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = rig.raw(bytes(LARGE))
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        with killed_after_the_first_file(rig, monkeypatch):
            collector.remove(item.digest)
    with rig.blobs.hold():
        assert rig.blobs.rely_on([item.digest]) == frozenset()
    rig.blobs.put(bytes(LARGE))
    assert rig.blobs.get(item.digest) == bytes(LARGE)


def _write(path: Path, count: int) -> None:
    """Another process: puts blobs and files of the index, as fast as it can."""
    home = Home(HomeLayout(path), Database.open(path / "world.db", schema.WORLD), 0)
    rig = Rig(home)
    rig.blobs.wall_ms = wall_ms
    for number in range(count):
        with rig.blobs.hold():
            rig.index(f"file/{number % 10}", rig.raw(b"written %d" % (number % 50)))
    home.database.close()


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def test_another_process_writes_while_this_one_collects(rig: Rig) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(rig.home.files.path, 400))
    writer.start()
    while writer.is_alive():
        rig.now_ms = wall_ms()
        rig.collect()
    writer.join()
    assert writer.exitcode == 0
    rig.now_ms = wall_ms() + 10
    rig.collect()
    assert rig.blobs.usage().blobs == 10
    rows = rig.home.database.query("SELECT cid FROM file_index")
    assert len(rows) == 10
    found = [Cid.from_bytes(cid).digest for (cid,) in rows]
    assert len(rig.blobs.get_many(found)) == 10
