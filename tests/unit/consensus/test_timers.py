from __future__ import annotations

import attrs
from one_engine import CONFIG

from agent_world.consensus.timers import Timer, Timers, wait_ms


def test_due_timers_fire_once_in_order() -> None:
    timers = Timers()
    timers.set(Timer.REPEAT, 10)
    timers.set(Timer.PROPOSE, 10)
    timers.set(Timer.PRECOMMIT, 20)
    assert timers.next_ms == 10
    assert timers.take_due(9) is None
    assert [timers.take_due(10) for _ in range(3)] == [Timer.PROPOSE, Timer.REPEAT, None]
    assert timers.next_ms == 20
    timers.set(Timer.PRECOMMIT, 30)
    assert timers.take_due(29) is None
    assert timers.is_set(Timer.PRECOMMIT)
    timers.clear(Timer.PRECOMMIT, Timer.START)
    assert timers.next_ms is None


def test_waits_grow_with_the_square_of_the_round() -> None:
    config = attrs.evolve(CONFIG, propose_timeout_ms=300, vote_timeout_ms=150, timeout_delta_ms=100)
    assert [wait_ms(config, Timer.PROPOSE, round_) for round_ in (0, 1, 2, 5, 10)] == [300, 400, 600, 1_800, 5_800]
    assert wait_ms(config, Timer.PREVOTE, 2) == wait_ms(config, Timer.PRECOMMIT, 2) == 450
    gone = attrs.evolve(config, gone_timeout_ms=50)
    assert [wait_ms(gone, Timer.PROPOSE, round_, is_gone=True) for round_ in (0, 1, 10)] == [50, 150, 5_550]
    assert wait_ms(attrs.evolve(gone, gone_timeout_ms=900), Timer.PROPOSE, 0, is_gone=True) == 300
    assert wait_ms(gone, Timer.PREVOTE, 0, is_gone=True) == 150


def test_a_deadline_is_brought_forward_and_never_made_or_put_off() -> None:
    timers = Timers()
    timers.bring_forward(Timer.PROPOSE, 10)
    assert timers.next_ms is None
    timers.set(Timer.PROPOSE, 20)
    timers.bring_forward(Timer.PROPOSE, 30)
    assert timers.next_ms == 20
    timers.bring_forward(Timer.PROPOSE, 10)
    assert timers.next_ms == 10
