"""Trio's order of ready tasks from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trio._core import _run as trio_scheduler


@contextmanager
def seeded_scheduler(seed: int) -> Iterator[None]:
    """Trio's order of ready tasks from a seed, so that a run replays; its switch for this is not public."""
    scheduler: Any = trio_scheduler  # its flag is declared Final, and flipping it is what trio's own tests do
    before, state = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r.getstate()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before
        scheduler._r.setstate(state)
