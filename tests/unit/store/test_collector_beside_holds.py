"""Collections beside imports, whose root comes last: what they have stored or found under a hold stays."""

from __future__ import annotations

import pytest
from collector_rig import LARGE, Rig, before_next_transaction, run

from agent_world.crypto.hashing import content_hash
from agent_world.errors import Unavailable
from agent_world.store.blob_hold import HOLD_S
from agent_world.store.home import Home
from agent_world.store.own_content import OwnContent


@pytest.fixture
def rig(home: Home) -> Rig:
    return Rig(home)


def test_an_import_whose_root_comes_last_is_safe_however_long_it_takes(rig: Rig) -> None:
    present = rig.raw(b"present")
    old = rig.raw(b"old")
    rig.collect(grace_ms=10)
    rig.now_ms += 5
    with rig.blobs.hold():
        rig.blobs.put(b"present")
        chunk = rig.raw(b"chunk")
        for _ in range(4):
            rig.now_ms += 1_000
            rig.collect(grace_ms=10)
        assert rig.here(old, present, chunk) == [False, True, True]
        rig.pin("import", rig.node(present, chunk))
    rig.now_ms += 1_000
    rig.collect(grace_ms=10)
    assert rig.here(present, chunk) == [True, True]


def test_a_put_under_a_hold_begun_between_marking_and_noting_keeps_its_blob(rig: Rig) -> None:
    """The hold is younger than the collection, which notes the blob after the put took it off the candidates."""
    cid = rig.raw(b"unreached until now")
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        started_ms, rig.now_ms = rig.now_ms, rig.now_ms + 5
        with rig.blobs.hold():
            rig.raw(b"unreached until now")
            run(collector.note(started_ms))
            run(collector.sweep(started_ms, 0))
            rig.index("its/root", cid)
    assert rig.here(cid) == [True]


def test_what_is_found_here_under_a_hold_stays_until_its_root_comes(rig: Rig) -> None:
    """A pin brings what is missing of a tree; what is here it only finds."""
    small, large = rig.raw(b"small"), rig.raw(b"large" * LARGE)
    rig.collect(grace_ms=10)
    rig.now_ms += 5
    with rig.blobs.hold():
        found = rig.blobs.rely_on([small.digest, large.digest, content_hash(b"not here")])
        assert found == {small.digest, large.digest}
        rig.now_ms += 1_000
        rig.collect()
        assert rig.blobs.rely_on(found) == found
        rig.pin("its root", rig.node(small, large))
    rig.collect()
    assert rig.here(small, large) == [True, True]


def test_garbage_whose_file_is_gone_is_not_found_here(rig: Rig) -> None:
    """A sweep was killed between its files and its commit, and the rows are still there."""
    large = rig.raw(b"large" * LARGE)
    rig.collect(grace_ms=10)
    next(rig.home.files.blobs.rglob(large.digest.hex())).unlink()
    with rig.blobs.hold():
        assert rig.blobs.rely_on([large.digest]) == frozenset()
    assert rig.here(large) == [False]


def test_what_was_given_up_stays_while_an_import_may_have_found_it(rig: Rig) -> None:
    item = rig.raw(b"held, and given up while somebody imports it")
    own = OwnContent(rig.home)
    with rig.blobs.hold():
        rig.raw(b"held, and given up while somebody imports it")
        own.discard([item.digest])
        assert own.discarded_bytes() > 0
        rig.collect(grace_ms=10_000)
        rig.pin("its root", item)
    rig.collect(grace_ms=10_000)
    assert rig.here(item) == [True]
    rig.pins.remove("its root")
    own.discard([item.digest])
    rig.collect(grace_ms=10_000)
    assert rig.here(item) == [False]


def test_a_hold_that_begins_before_a_batch_is_removed_counts_for_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    item = rig.raw(b"item")
    own = OwnContent(rig.home)
    own.discard([item.digest])
    hold = rig.blobs.hold()

    def import_it() -> None:
        hold.__enter__()
        rig.raw(b"item")
        own.discard([item.digest])

    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        run(collector.note(rig.now_ms))
        before_next_transaction(monkeypatch, rig.home.database, import_it)
        run(collector.sweep(rig.now_ms, 10_000))
        rig.pin("its root", item)
        hold.__exit__(None, None, None)
    assert rig.here(item) == [True]


def test_an_import_goes_on_though_the_machine_was_asleep_for_longer_than_a_hold_lasts(rig: Rig) -> None:
    with rig.blobs.hold():
        chunk = rig.raw(b"chunk")
        rig.collect()
        rig.now_ms += 3 * int(HOLD_S * 1000)
        rig.collect()
        rig.pin("its root", chunk)
    assert rig.here(chunk) == [True]


def test_an_import_that_another_process_took_for_dead_is_told_so(rig: Rig) -> None:
    other = Rig(rig.home)
    other.now_ms += 2 * int(HOLD_S * 1000)
    hold = rig.blobs.hold().__enter__()
    chunk = rig.raw(b"chunk")
    other.collect()
    assert rig.here(chunk) == [False]
    with pytest.raises(Unavailable, match="do it again"):
        hold.__exit__(None, None, None)
