"""What a node wants itself, and what it has given up; content that is left to others is no root of a collection."""

from __future__ import annotations

import pytest

from agent_world.config import StorageConfig
from agent_world.crypto.hashing import cid_of
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector
from agent_world.store.content import ContentState, ContentTable
from agent_world.store.home import Home
from agent_world.store.own_content import OwnContent
from agent_world.store.pins import Pin, PinTable
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import TimeMs

NOW = 1_000_000
GRACE_MS = 500_000


class Rig:
    """A home with the content of a state: what its objects name."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.blobs = LocalCasStore(home, StorageConfig())
        self.blobs.wall_ms = lambda: NOW
        self.table = ContentTable(home)
        self.own = OwnContent(home)
        self.objects = [Cid(Codec.RAW, self.blobs.put(b"object %d" % number)) for number in range(4)]
        state = cbor.encode({"objects": self.objects})
        (digest,) = self.blobs.put_many([state], kept=True)
        self.state = Cid(Codec.DAG_CBOR, digest)
        self.table.name([(cid, 8) for cid in self.objects], NOW)
        for cid in self.objects:
            self.table.take_up(cid, NOW)
        self.table.mark_have(self.objects)

    def collect(self) -> None:
        collector = Collector(self.home, self.blobs, lambda: [self.state])
        with collector.alone():
            for _ in collector.mark(NOW):
                pass
            for _ in collector.note(NOW):
                pass
            for _ in collector.sweep(NOW, GRACE_MS):
                pass

    def left(self) -> list[bool]:
        return [self.blobs.has(cid.digest) for cid in self.objects]


@pytest.fixture
def rig(home: Home) -> Rig:
    return Rig(home)


def pin(rig: Rig, cid: Cid, expires_ms: int | None = None) -> None:
    end = None if expires_ms is None else TimeMs(expires_ms)
    PinTable(rig.home).put(Pin(name=str(cid), cid=cid, recursive=True, made_ms=TimeMs(1), expires_ms=end))


def test_pins_that_last_and_files_bind_content(rig: Rig) -> None:
    pin(rig, rig.objects[0])
    pin(rig, rig.objects[1], expires_ms=NOW)
    with rig.home.database.transaction():
        rig.home.database.execute("INSERT INTO file_index VALUES ('a', ?, 1, 1)", (rig.objects[2].to_bytes(),))
    assert rig.own.bound(rig.objects, NOW) == {rig.objects[0], rig.objects[2]}
    assert rig.own.bound([], NOW) == frozenset()


def test_what_was_given_up_goes_without_a_grace_though_the_state_names_it(rig: Rig) -> None:
    rig.collect()
    assert rig.left() == [True] * 4
    given_up = rig.objects[1]
    assert rig.table.give_up(given_up)
    assert not rig.table.give_up(given_up)
    rig.own.discard([given_up.digest])
    assert rig.own.discarded_bytes() == 8
    rig.collect()
    assert rig.left() == [True, False, True, True]
    assert rig.own.discarded_bytes() == 0


def test_what_was_left_to_others_and_not_discarded_has_its_grace(rig: Rig) -> None:
    rig.table.give_up(rig.objects[1])
    rig.collect()
    assert rig.left() == [True] * 4


def test_what_was_given_up_and_is_wanted_again_stays(rig: Rig) -> None:
    given_up = rig.objects[1]
    rig.table.give_up(given_up)
    rig.own.discard([given_up.digest])
    assert rig.table.take_up(given_up, NOW)
    rig.collect()
    assert rig.left() == [True] * 4


def test_what_is_taken_up_while_a_collection_marks_stays(rig: Rig) -> None:
    """The row was there before, so no insertion tells of the new root."""
    given_up = rig.objects[1]
    rig.table.give_up(given_up)
    rig.own.discard([given_up.digest])
    collector = Collector(rig.home, rig.blobs, lambda: [rig.state])
    with collector.alone():
        for _ in collector.mark(NOW):
            pass
        for _ in collector.note(NOW):
            pass
        rig.table.take_up(given_up, NOW)
        for _ in collector.sweep(NOW, GRACE_MS):
            pass
    assert rig.left() == [True] * 4


def test_a_pin_keeps_what_the_world_leaves_to_others(rig: Rig) -> None:
    given_up = rig.objects[1]
    rig.table.give_up(given_up)
    rig.own.discard([given_up.digest])
    pin(rig, given_up)
    rig.collect()
    assert rig.left() == [True] * 4


def test_content_of_the_chain_is_never_discarded(rig: Rig) -> None:
    rig.own.discard([rig.state.digest])
    assert rig.own.discarded_bytes() == 0


def test_named_content_is_undecided_then_left_or_taken(rig: Rig) -> None:
    table = rig.table
    cid = cid_of(b"new", Codec.RAW)
    assert table.name([(cid, 3)], NOW) == 1
    assert table.name([(cid, 3)], NOW + 1) == 0
    assert [item.cid for item in table.due(NOW, 9, ContentState.NAMED)] == [cid]
    assert table.due(NOW - 1, 9, ContentState.NAMED) == ()
    table.leave([cid])
    assert table.due(2**62, 9, ContentState.NAMED) == ()
    assert table.take_up(cid, NOW)
    assert not table.take_up(cid, NOW)
    assert [item.cid for item in table.due(NOW, 9)] == [cid]


def test_what_was_wanted_before_the_world_named_it_counts_as_named_and_stays_wanted(rig: Rig) -> None:
    cid = cid_of(b"wanted", Codec.RAW)
    rig.table.want([(cid, 0)], NOW)
    assert rig.table.name([(cid, 6)], NOW) == 1
    row = rig.table.get(cid)
    assert row is not None
    assert (row.state, row.size_bytes, row.is_named) == (ContentState.WANTED, 6, True)


def test_named_content_is_read_in_pages_by_cid_and_other_content_is_not(rig: Rig) -> None:
    rig.table.want([(cid_of(b"part", Codec.RAW), 0)], NOW)
    found: list[Cid] = []
    while page := rig.table.named_after(found[-1] if found else None, 3):
        found += [row.cid for row in page]
    assert found == sorted(rig.objects, key=Cid.to_bytes)


def test_a_node_that_keeps_everything_again_wants_all_that_it_had_left(rig: Rig) -> None:
    rig.table.give_up(rig.objects[0])
    rig.table.give_up(rig.objects[3])
    assert rig.table.take_up_all(NOW) == 2
    assert rig.table.counts()[ContentState.NAMED].items == 0


def test_what_was_not_to_be_had_is_taken_up_like_what_was_left(home: Home) -> None:
    table = ContentTable(home, StorageConfig(pull_attempts_max=1))
    cid = cid_of(b"lost", Codec.RAW)
    table.name([(cid, 4)], NOW)
    table.take_up(cid, NOW)
    assert table.mark_failed(cid, "nobody has it", NOW) is ContentState.UNAVAILABLE
    assert table.take_up(cid, NOW)
    assert [item.cid for item in table.due(NOW, 9)] == [cid]
