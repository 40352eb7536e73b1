from __future__ import annotations

import itertools

from agent_world.node.rumours import BURST_MAX, FIRST_PAUSE_MS, PAUSE_MS_MAX, RATE_PER_S, Rumours


def test_what_all_get_directly_is_gossiped_only_when_it_is_sent_again() -> None:
    rumours = Rumours()
    assert not rumours.is_due(b"vote", 0, enough_linked=True)
    assert rumours.is_due(b"vote", 1, enough_linked=True)
    assert Rumours().is_due(b"vote", 0, enough_linked=False)


def test_repeats_come_at_growing_intervals() -> None:
    rumours = Rumours()
    times = [now for now in range(0, 120_000, 100) if rumours.is_due(b"vote", now, enough_linked=False)]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] == FIRST_PAUSE_MS
    assert pauses == sorted(pauses)
    assert pauses[-1] == PAUSE_MS_MAX


def test_a_stalled_height_stays_below_the_rate() -> None:
    rumours = Rumours()
    sent = sum(
        rumours.is_due(b"%d %d" % (now, number), now, enough_linked=False)
        for now in range(0, 10_000, 100)
        for number in range(5)
    )
    assert sent == BURST_MAX + 10 * RATE_PER_S - 1  # the last tenth of a second gives no whole one


def test_a_message_that_found_no_room_is_sent_later() -> None:
    rumours = Rumours()
    assert all(rumours.is_due(b"%d" % number, 0, enough_linked=False) for number in range(BURST_MAX))
    assert not rumours.is_due(b"late", 0, enough_linked=False)
    assert rumours.is_due(b"late", 1_000, enough_linked=False)


def test_a_new_height_begins_anew() -> None:
    rumours = Rumours()
    assert rumours.is_due(b"vote", 0, enough_linked=False)
    assert not rumours.is_due(b"vote", 10, enough_linked=False)
    rumours.forget()
    assert rumours.is_due(b"vote", 20, enough_linked=False)
