from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agent_world.node.clock import Clock
from agent_world.node.seat import Seat
from agent_world.testing.ledger_chain import LedgerChain


@pytest.fixture
async def seat(empty_chain: LedgerChain) -> AsyncIterator[Seat]:
    """Of the one validator of a world; its heights come as from others."""
    clock = Clock(lambda: empty_chain.ledger.timestamp_ms)
    made = Seat(empty_chain.home, empty_chain.voter, empty_chain.ledger, clock, drift_max_ms=1_000)
    yield made
    made.close()


def is_silent(seat: Seat) -> bool:
    says_so = str(seat.status()["voting"]).startswith("waiting: another process signs")
    assert seat.begin().watching == says_so
    return says_so


async def test_what_was_signed_before_a_guard_was_set_back_silences_for_one_height_only(
    seat: Seat, empty_chain: LedgerChain
) -> None:
    empty_chain.commit()
    seat.met_itself()
    seat.met_itself()
    assert not is_silent(seat)
    empty_chain.commit()
    assert not is_silent(seat)


async def test_a_message_that_was_not_signed_here_at_a_second_height_is_of_another_process(
    seat: Seat, empty_chain: LedgerChain
) -> None:
    empty_chain.commit()
    seat.met_itself()
    empty_chain.commit()
    seat.met_itself()
    assert is_silent(seat)
    assert seat.counters["guard.key_elsewhere"] == 1


async def test_so_is_one_at_a_height_that_began_here(seat: Seat, empty_chain: LedgerChain) -> None:
    empty_chain.commit()
    seat.decided(1)
    seat.met_itself()
    assert is_silent(seat)
