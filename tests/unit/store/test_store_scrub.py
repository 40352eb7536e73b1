from __future__ import annotations

from pathlib import Path

import pytest

from agent_world.crypto.hashing import content_hash, hash32
from agent_world.store import scrub
from agent_world.store.home import Home
from agent_world.store.scrub import ScrubPlace, ScrubTable

GENESIS = hash32(b"genesis")

ONE, TWO, THREE = (content_hash(b"%d" % number) for number in range(3))


def test_the_place_outlives_the_process(home_path: Path) -> None:
    with Home.open(home_path, GENESIS) as home:
        table = ScrubTable(home)
        assert table.place() == ScrubPlace(None, 0, None)
        table.move(ONE)
    with Home.open(home_path, GENESIS) as home:
        assert ScrubTable(home).place() == ScrubPlace(ONE, 0, None)


def test_the_end_of_a_pass_is_the_beginning_of_the_next(home: Home) -> None:
    table = ScrubTable(home)
    table.move(ONE)
    table.end_pass(1_000)
    assert table.place() == ScrubPlace(None, 1, 1_000)


def test_those_tried_least_come_first_and_a_blob_is_there_once(home: Home) -> None:
    table = ScrubTable(home)
    for item in (ONE, TWO, THREE):
        assert table.add_lost(item, 5)
    assert [table.tried(ONE), table.tried(ONE), table.tried(TWO)] == [1, 2, 1]
    assert table.add_lost(ONE, 9), "it is remembered already"
    assert table.lost(9) == (THREE, TWO, ONE)
    assert table.lost(1) == (THREE,)
    table.forget([THREE, TWO])
    assert (table.lost(9), table.lost_count()) == ((ONE,), 1)
    assert table.tried(TWO) == 0, "it is forgotten"


def test_there_is_a_bound(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "LOST_MAX", 2)
    table = ScrubTable(home)
    assert [table.add_lost(item, 5) for item in (ONE, TWO, THREE)] == [True, True, False]
    assert table.lost_count() == 2
