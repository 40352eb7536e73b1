from __future__ import annotations

from agent_world.node.heard import HEARD_MAX, Heard


def test_what_was_added_is_known_until_it_is_forgotten() -> None:
    heard = Heard()
    heard.add(b"vote")
    assert b"vote" in heard
    assert b"other" not in heard
    heard.forget()
    assert b"vote" not in heard


def test_it_never_holds_more_than_its_bound() -> None:
    heard = Heard()
    for number in range(HEARD_MAX + 1):
        heard.add(number.to_bytes(4, "big"))
    assert sum(number.to_bytes(4, "big") in heard for number in range(HEARD_MAX + 1)) == 1
