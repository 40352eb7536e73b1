from __future__ import annotations

import pytest

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


def rows(home: Home) -> list[tuple[int, int, int]]:
    return home.database.query("SELECT * FROM gc_holds ORDER BY id")


def test_holds_stand_beside_each_other_until_they_end(home: Home, clock: Clock) -> None:
    with BlobHold(home.database, clock):
        clock.now_ms = 2_000
        with BlobHold(home.database, clock):
            assert rows(home) == [(1, 1_000, 1_000 + HOLD_MS), (2, 2_000, 2_000 + HOLD_MS)]
        assert len(rows(home)) == 1
    assert rows(home) == []


def test_a_hold_ends_with_an_error_too(home: Home, clock: Clock) -> None:
    with pytest.raises(ValueError, match="stop"), BlobHold(home.database, clock):
        raise ValueError("stop")
    assert rows(home) == []


def test_renewing_costs_a_write_only_after_half_its_time_and_keeps_its_beginning(home: Home, clock: Clock) -> None:
    with BlobHold(home.database, clock) as hold:
        clock.now_ms += HOLD_MS // 2
        hold.renew()
        assert rows(home) == [(1, 1_000, 1_000 + HOLD_MS)]
        clock.now_ms += 1
        hold.renew()
        assert rows(home) == [(1, 1_000, clock.now_ms + HOLD_MS)]
