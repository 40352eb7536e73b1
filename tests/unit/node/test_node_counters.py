from __future__ import annotations

from agent_world.node.counters import NAMES_MAX, Counters


def test_counts_by_name_in_order() -> None:
    counters = Counters()
    counters.add("b")
    counters.add("a", 5)
    counters.add("b")
    assert list(counters.items()) == [("a", 5), ("b", 2)]
    assert counters["never"] == 0
    assert "never" not in counters


def test_names_are_bounded_whatever_hostile_input_makes_of_them() -> None:
    counters = Counters()
    for number in range(NAMES_MAX + 50):
        counters.add(f"name {number}")
    counters.add("name 0")
    assert len(counters) == NAMES_MAX + 1
    assert counters["other"] == 50
    assert counters["name 0"] == 2
