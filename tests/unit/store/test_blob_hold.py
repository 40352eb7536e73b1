from __future__ import annotations

import pytest

from agent_world.errors import Unavailable
from agent_world.store.blob_hold import HOLD_S, BlobHold
from agent_world.store.home import Home

HOLD_MS = int(HOLD_S * 1000)


class Clock:
    now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


def rows(home: Home) -> list[tuple[int, int]]:
    return home.database.query("SELECT since_ms, until_ms FROM gc_holds ORDER BY since_ms")


def test_holds_stand_beside_each_other_until_they_end(home: Home, clock: Clock) -> None:
    open_holds: set[BlobHold] = set()
    with BlobHold(home.database, clock, open_holds):
        clock.now_ms = 2_000
        with BlobHold(home.database, clock, open_holds):
            assert rows(home) == [(1_000, 1_000 + HOLD_MS), (2_000, 2_000 + HOLD_MS)]
            assert len(open_holds) == 2
        assert len(rows(home)) == len(open_holds) == 1
    assert not open_holds
    assert rows(home) == []


def test_a_hold_ends_with_an_error_too(home: Home, clock: Clock) -> None:
    with pytest.raises(ValueError, match="stop"), BlobHold(home.database, clock, set()):
        raise ValueError("stop")
    assert rows(home) == []


def test_renewing_costs_a_write_only_after_half_its_time_and_keeps_its_beginning(home: Home, clock: Clock) -> None:
    with BlobHold(home.database, clock, set()) as hold:
        clock.now_ms += HOLD_MS // 2
        hold.renew()
        assert rows(home) == [(1_000, 1_000 + HOLD_MS)]
        clock.now_ms += 1
        hold.renew()
        assert rows(home) == [(1_000, clock.now_ms + HOLD_MS)]


def test_a_hold_that_a_collection_has_ended_says_so_and_leaves_other_holds_alone(home: Home, clock: Clock) -> None:
    """The process was stopped for longer than a hold lasts; meanwhile others collect and import."""
    stopped = BlobHold(home.database, clock, set()).__enter__()
    clock.now_ms += HOLD_MS
    home.database.execute("DELETE FROM gc_holds WHERE until_ms <= ?", (clock.now_ms,))
    with BlobHold(home.database, clock, set()) as other:
        with pytest.raises(Unavailable, match="do it again"):
            stopped.__exit__(None, None, None)
        assert rows(home) == [(clock.now_ms, clock.now_ms + HOLD_MS)]
        other.renew()


def test_renewing_a_hold_that_has_ended_says_so_each_time(home: Home, clock: Clock) -> None:
    hold = BlobHold(home.database, clock, set()).__enter__()
    clock.now_ms += HOLD_MS
    home.database.execute("DELETE FROM gc_holds")
    for _ in range(2):
        with pytest.raises(Unavailable):
            hold.renew()
    failed = ValueError("what made the block fail is what is told")
    hold.__exit__(ValueError, failed, None)
