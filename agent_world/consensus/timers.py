"""The deadlines of one height, and how long each wait of a round is."""

from __future__ import annotations

from enum import IntEnum

from agent_world.config import ConsensusConfig


class Timer(IntEnum):
    """What a deadline is for; due ones fire in this order."""

    START = 0
    """The pause after the last commit is over."""
    EMPTY = 1
    """With nothing to order: now make an empty block."""
    PROPOSE = 2
    PREVOTE = 3
    PRECOMMIT = 4
    REPEAT = 5
    """Send own messages again."""


class Timers:
    """At most one deadline of each kind; milliseconds of the monotonic clock that is handed in."""

    def __init__(self) -> None:
        self._deadlines: dict[Timer, int] = {}

    def set(self, timer: Timer, at_ms: int) -> None:
        """Set or move a deadline."""
        self._deadlines[timer] = at_ms

    def bring_forward(self, timer: Timer, at_ms: int) -> None:
        """Make a deadline that lies ahead come at ``at_ms`` if that is sooner."""
        if self._deadlines.get(timer, at_ms) > at_ms:
            self._deadlines[timer] = at_ms

    def is_set(self, timer: Timer) -> bool:
        """Whether this deadline lies ahead."""
        return timer in self._deadlines

    def clear(self, *timers: Timer) -> None:
        """Take deadlines back."""
        for timer in timers:
            self._deadlines.pop(timer, None)

    def take_due(self, now_ms: int) -> Timer | None:
        """Remove and return one deadline that has come, in the order of Timer."""
        due = min((timer for timer, at_ms in self._deadlines.items() if at_ms <= now_ms), default=None)
        if due is not None:
            del self._deadlines[due]
        return due

    @property
    def next_ms(self) -> int | None:
        """The nearest deadline."""
        return min(self._deadlines.values(), default=None)


def wait_ms(config: ConsensusConfig, timer: Timer, round_: int, *, is_gone: bool = False) -> int:
    """Length of a round's wait (D4). It grows with the square of the round: every delay, also that of a busy machine,
    is reached after few rounds, and a run of dead proposers does not cost minutes. The wait for a proposer that
    ``is_gone`` is shorter and grows alike, so that being wrong about it costs rounds and never the decision."""
    base = config.propose_timeout_ms if timer is Timer.PROPOSE else config.vote_timeout_ms
    if is_gone and timer is Timer.PROPOSE:
        base = min(base, config.gone_timeout_ms)
    return base + config.timeout_delta_ms * round_ * (round_ + 1) // 2
