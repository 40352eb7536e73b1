from agent_world.net.counters import Counters


def test_counts_by_name_in_order_and_gives_a_copy() -> None:
    counters = Counters()
    counters.add("b")
    counters.add("a", 3)
    counters.add("b")
    snapshot = counters.snapshot()
    assert list(snapshot.items()) == [("a", 3), ("b", 2)]
    counters.add("a")
    assert snapshot["a"] == 3
