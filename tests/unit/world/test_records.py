from __future__ import annotations

import attrs
import pytest

from agent_world.wire import record
from agent_world.wire.ids import U64, TimeMs
from agent_world.wire.limits import STATE_KEY_BYTES_MAX
from agent_world.world import records
from agent_world.world.records import ACTORS, BALANCES, OBJECTS, RULES, SYSTEM, WORLD, ClockRecord, Table

TABLES = [value for value in vars(records).values() if isinstance(value, Table)]


def test_keys_are_the_documented_ones() -> None:
    assert WORLD.key() == b"world"
    assert ACTORS.key("abc") == b"actor/abc"
    assert BALANCES.key("abc", "gold/dust") == b"balance/abc/gold/dust"


def test_every_table_is_in_the_documentation_and_no_two_share_a_key() -> None:
    for table in TABLES:
        assert f"``{table.prefix}" in str(records.__doc__)
        assert table.record.__name__ in str(records.__doc__)
    assert len({(table.namespace, table.prefix) for table in TABLES}) == len(TABLES) == 15
    assert {table.namespace for table in TABLES} == {RULES, SYSTEM}


@pytest.mark.parametrize(
    ("table", "count", "key", "parts"),
    [
        (ACTORS, 1, b"actor/abc", ("abc",)),
        (BALANCES, 2, b"balance/abc/gold/dust", ("abc", "gold/dust")),
        (OBJECTS, 1, b"object/a/b", ("a/b",)),
        (OBJECTS, 1, b"objects/a", None),
        (OBJECTS, 1, b"object", None),
        (BALANCES, 2, b"balance/abc", None),
    ],
)
def test_parts_of_a_key(table: Table[object], count: int, key: bytes, parts: tuple[str, ...] | None) -> None:
    assert table.parts(key, count) == parts
    assert parts is None or table.key(*parts) == key


def test_the_longest_name_of_three_byte_characters_fits_everywhere() -> None:
    assert len(BALANCES.key("a" * 32, "日" * 64)) <= STATE_KEY_BYTES_MAX
    assert len(OBJECTS.key("日" * 64)) <= STATE_KEY_BYTES_MAX


def test_records_are_frozen_and_come_back_from_bytes() -> None:
    clock = ClockRecord(height=U64(1), slot=U64(1), timestamp_ms=TimeMs(2), last_event_id=U64(3))
    assert record.from_bytes(ClockRecord, record.to_bytes(clock), size_max=99) == clock
    for table in TABLES:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            table.record.__setattr__(object.__new__(table.record), attrs.fields(table.record)[0].name, 1)
