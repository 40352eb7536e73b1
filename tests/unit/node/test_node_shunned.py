from __future__ import annotations

from agent_world.node.shunned import SHUN_MS, SHUN_MS_MAX, SHUNNED_MAX, Shunned
from agent_world.wire.ids import PeerId

A, B = PeerId("a"), PeerId("b")


def test_twice_as_long_every_time_up_to_a_bound() -> None:
    shunned, now, times = Shunned(), 0, []
    for _ in range(9):
        shunned.add(A, now)
        until = next(t for t in range(now, now + SHUN_MS_MAX + 1, 500) if not shunned.is_shunned(A, t))
        times.append(until - now)
        now = until
    assert times == [min(SHUN_MS_MAX, SHUN_MS << turn) for turn in range(9)]
    assert not shunned.is_shunned(B, 0)


def test_a_good_hello_is_forgiveness() -> None:
    shunned = Shunned()
    for _ in range(5):
        shunned.add(A, 0)
    shunned.forgive(A)
    assert not shunned.is_shunned(A, 0)
    shunned.add(A, 0)
    assert shunned.is_shunned(A, SHUN_MS - 1)
    assert not shunned.is_shunned(A, SHUN_MS)
    shunned.forgive(B)


def test_the_memory_is_bounded() -> None:
    shunned = Shunned()
    for number in range(SHUNNED_MAX + 1):
        shunned.add(PeerId(str(number)), 0)
    assert not shunned.is_shunned(PeerId("0"), 0)
    assert shunned.is_shunned(PeerId("1"), 0)
