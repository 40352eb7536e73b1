from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of
from agent_world.errors import HomeError, UsageError
from agent_world.store.home import Home
from agent_world.store.pins import NAME_BYTES_MAX, Pin, PinTable
from agent_world.wire.cid import Codec
from agent_world.wire.ids import TimeMs

CIDS = [cid_of(b"pinned %d" % number, Codec.RAW) for number in range(3)]


@pytest.fixture
def table(home: Home) -> PinTable:
    return PinTable(home)


def pin(name: str, number: int = 0, expires_ms: int | None = None) -> Pin:
    end = None if expires_ms is None else TimeMs(expires_ms)
    return Pin(name=name, cid=CIDS[number], recursive=number != 1, made_ms=TimeMs(5), expires_ms=end)


def test_a_pin_is_found_by_its_name_and_replaced_by_another(table: PinTable) -> None:
    table.put(pin("a"))
    assert table.get("a") == pin("a")
    assert table.get("b") is None
    table.put(pin("a", 1, expires_ms=9))
    assert list(table.iterate()) == [pin("a", 1, expires_ms=9)]
    assert [table.remove("a"), table.remove("a")] == [True, False]
    assert list(table.iterate()) == []


def test_expire_removes_what_has_come_to_its_end(table: PinTable) -> None:
    for name, end in (("for ever", None), ("until 10", 10), ("until 11", 11)):
        table.put(pin(name, expires_ms=end))
    assert table.expire(10) == 1
    assert [kept.name for kept in table.iterate()] == ["for ever", "until 11"]


def test_more_pins_than_a_page_come_once_each_in_order(table: PinTable) -> None:
    names = sorted(f"pin {number}" for number in range(600))
    for name in names:
        table.put(pin(name))
    assert [kept.name for kept in table.iterate()] == names
    assert [kept.name for kept in table.iterate("pin 98")] == names[names.index("pin 98") + 1 :]


@pytest.mark.parametrize("name", ["", "x" * (NAME_BYTES_MAX + 1), "two\nlines", "ä" * 200])
def test_a_name_that_is_none_is_refused(table: PinTable, name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        table.put(pin(name))
    assert list(table.iterate()) == []


def test_a_damaged_row_is_named(home: Home, table: PinTable) -> None:
    table.put(pin("a"))
    home.database.execute("UPDATE pins SET cid = x'00'")
    with pytest.raises(HomeError, match="pins is damaged"):
        table.get("a")


@given(st.text(min_size=1, max_size=64))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_any_name_is_kept_as_it_is_or_refused(home: Home, name: str) -> None:
    table = PinTable(home)
    try:
        table.put(pin(name))
    except UsageError:
        return
    assert table.get(name) == pin(name)
    table.remove(name)
