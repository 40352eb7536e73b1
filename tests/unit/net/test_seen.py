from __future__ import annotations

from agent_world.net.seen import SeenIds


def test_what_was_added_is_seen() -> None:
    seen = SeenIds()
    assert seen.add(b"one")
    assert not seen.add(b"one")
    assert seen.has(b"one")
    assert not seen.has(b"two")


def test_the_newest_are_kept_and_never_more_than_two_generations() -> None:
    seen = SeenIds(10)
    for number in range(1_000):
        assert seen.add(number.to_bytes(4, "big"))
        assert len(seen) <= 20
        newest = range(max(0, number - 9), number + 1)
        assert all(seen.has(kept.to_bytes(4, "big")) for kept in newest)
    assert not seen.has((0).to_bytes(4, "big"))
