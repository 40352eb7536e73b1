"""What roots reach, however often and in whatever way they reach the same bytes."""

from __future__ import annotations

import pytest
from collector_rig import LARGE, Rig, run

from agent_world.crypto.hashing import cid_of
from agent_world.store.collector import Garbage
from agent_world.store.content import ContentTable
from agent_world.store.home import Home
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec, ContentHash


@pytest.fixture
def rig(home: Home) -> Rig:
    return Rig(home)


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_direct_pin_beside_a_recursive_one_takes_nothing_from_it(rig: Rig, names: tuple[str, str]) -> None:
    leaf = rig.raw(b"leaf")
    top = rig.node(leaf)
    rig.pin(names[0], top, recursive=False)
    rig.pin(names[1], top)
    rig.collect()
    assert rig.here(leaf, top) == [True, True]


def test_a_root_that_calls_a_manifest_raw_takes_nothing_from_one_that_calls_it_a_manifest(rig: Rig) -> None:
    """Whoever stores the bytes of a manifest as a file of their own gives them a second name."""
    leaf = rig.raw(b"leaf")
    top = rig.node(leaf)
    rig.pin("a copy of the manifest", Cid(Codec.RAW, top.digest))
    rig.index("the/file", top)
    rig.collect()
    assert rig.here(leaf, top) == [True, True]


def test_a_link_that_calls_a_manifest_raw_takes_nothing_from_the_manifest(rig: Rig) -> None:
    leaf = rig.raw(b"leaf")
    top = rig.node(leaf)
    rig.pin("a", rig.node(Cid(Codec.RAW, top.digest)))
    rig.pin("b", top)
    rig.collect()
    assert rig.here(leaf, top) == [True, True]


def test_a_direct_pin_that_becomes_a_recursive_one_while_marking_keeps_what_is_below(rig: Rig) -> None:
    leaf = rig.raw(b"leaf")
    top = rig.node(leaf)
    rig.pin("a", top, recursive=False)
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        run(collector.note(rig.now_ms))
        rig.pin("a", top)
        run(collector.sweep(rig.now_ms, 0))
    assert rig.here(leaf, top) == [True, True]


def test_a_pin_on_a_part_of_a_state_takes_nothing_from_a_later_state_that_has_it_again(rig: Rig) -> None:
    leaf = rig.raw(b"leaf")
    part = cbor.encode({"links": [leaf]})
    state = cbor.encode({"links": [cid_of(part)]})
    rig.blobs.put_many((part, state), kept=True)
    rig.pin("an old part", cid_of(part))
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        run(collector.note(rig.now_ms))
        rig.live.append(cid_of(state))
        run(collector.sweep(rig.now_ms, 0))
    assert rig.here(leaf) == [True]


def test_what_is_left_to_others_stays_while_other_content_of_the_state_links_to_it(rig: Rig) -> None:
    left = rig.raw(b"left to others, as an object of its own")
    tree = rig.node(left)
    state = cbor.encode({"links": [left, tree]})
    rig.blobs.put(state, kept=True)
    rig.live.append(cid_of(state))
    table = ContentTable(rig.home)
    table.name([(left, 1), (tree, 1)], 0)
    table.take_up(tree, 0)
    rig.collect()
    assert rig.here(left, tree) == [True, True]


def test_what_is_below_a_missing_manifest_stays_once_it_has_come(rig: Rig) -> None:
    """The puller stores a manifest and its chunks while a collection goes on that has found it missing."""
    leaf = rig.raw(b"leaf")
    data = cbor.encode({"links": [leaf]})
    ContentTable(rig.home).want([(cid_of(data), 1)], rig.now_ms)
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        assert collector.missing == 1
        run(collector.note(rig.now_ms))
        rig.blobs.put(data)
        run(collector.sweep(rig.now_ms, 0))
    assert rig.here(leaf) == [True]


def test_a_missing_manifest_that_comes_with_much_below_it_is_followed_before_the_sweep_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_world.store.collector.LATE_READS_MAX", 3)
    leaf = rig.raw(b"leaf")
    top = rig.tower(leaf, 40)
    data = cbor.encode({"links": [top]})
    rig.pin("its manifest is damaged", cid_of(data))
    garbage = rig.raw(b"garbage")
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        run(collector.note(rig.now_ms))
        rig.blobs.put(data)
        run(collector.sweep(rig.now_ms, 0))
    assert rig.here(leaf, top, garbage) == [True, True, False]


def damage(rig: Rig, cid: Cid) -> None:
    rig.home.database.execute("UPDATE blobs SET data = x'00' WHERE content_hash = ?", (cid.digest,))


def test_below_a_damaged_manifest_nothing_goes_before_it_can_be_fetched_again(rig: Rig) -> None:
    leaf, garbage = rig.raw(b"leaf"), rig.raw(b"garbage")
    top = rig.node(leaf)
    rig.pin("a", top)
    damage(rig, top)
    assert rig.collect() == Garbage()
    rig.node(leaf)  # from a peer
    assert rig.collect() == Garbage(1, len(b"garbage"))
    assert rig.here(leaf, top, garbage) == [True, True, False]


def test_what_only_a_damaged_manifest_reaches_that_nobody_has_goes_in_time(rig: Rig) -> None:
    leaf = rig.raw(b"leaf")
    top = rig.node(leaf)
    rig.pin("a", top)
    damage(rig, top)
    assert rig.collect(grace_ms=10) == rig.collect(grace_ms=10) == Garbage()
    rig.now_ms += 10
    assert rig.collect(grace_ms=10) == Garbage(1, 4)


def test_damage_is_told_to_who_fetches_it_again_and_what_never_was_here_is_not(rig: Rig) -> None:
    lost: list[ContentHash] = []
    absent, damaged, torn = cid_of(b"absent"), rig.node(salt=1), rig.node(rig.raw(b"leaf" * LARGE), salt=2)
    large = cbor.encode({"text": "x" * LARGE})
    rig.blobs.put(large)
    rig.pin("a", rig.node(absent, damaged, torn, cid_of(large)))
    damage(rig, damaged)
    rig.blobs._files.delete(cid_of(large).digest)
    collector = rig.collector()
    collector.tell_lost(lost.append)
    with collector.alone():
        run(collector.mark(rig.now_ms))
    assert sorted(lost) == sorted([damaged.digest, cid_of(large).digest])
    assert (collector.damaged, collector.missing) == (2, 3)


def test_damage_that_a_sweep_meets_below_a_late_root_ends_it(rig: Rig) -> None:
    leaf = rig.raw(b"leaf")
    top = rig.node(leaf)
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        run(collector.note(rig.now_ms))
        rig.index("late", top)
        damage(rig, top)
        run(collector.sweep(rig.now_ms, 0))
        assert not collector.remove(leaf.digest)
        assert "damaged" in str(next(collector.holders(leaf.digest, rig.now_ms)))
    assert rig.here(leaf) == [True]


def test_one_blob_is_removed_however_much_late_roots_reach(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_world.store.collector.LATE_READS_MAX", 3)
    leaf = rig.raw(b"leaf")
    top = rig.tower(leaf, 40)
    garbage = rig.raw(b"garbage")
    collector = rig.collector()
    with collector.alone():
        run(collector.mark(rig.now_ms))
        rig.index("late", top)
        assert [collector.remove(item.digest) for item in (leaf, garbage)] == [False, True]
    assert rig.here(leaf, top, garbage) == [True, True, False]
