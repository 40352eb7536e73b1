"""What must be fixed for a run with libp2p to replay: the clock, trio's order of tasks, chance, hashes and addresses.

Leaving out any one makes two runs of a seed differ. Keys of the handshake stay random; they change no time and no
length.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, tzinfo
from typing import Any, Final
from unittest import mock

import libp2p.kad_dht.common as kad_common
import trio
import trio.testing
from libp2p.network import swarm as library_swarm
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.tools.anyio_service.tasks import BaseTask
from libp2p.tools.anyio_service.trio_tasks import BaseTask as TrioBaseTask
from libp2p.tools.timed_cache.base_timed_cache import BaseTimedCache

from agent_world.testing.stack import seeded_scheduler

EPOCH_S: Final = 1_800_000_000
"""Wall time at virtual time 0."""
HASH_SEED: Final = "PYTHONHASHSEED"


def require_fixed_hashes() -> None:
    """Start this program again with the same arguments and PYTHONHASHSEED=0, unless it has that already.

    The library's order of peers is that of sets, which follows the hashes.
    """
    if os.environ.get(HASH_SEED) != "0":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, HASH_SEED: "0"})


def _virtual_s() -> float:
    return trio.current_time()


class _VirtualDatetime(datetime):
    """The library's records carry the time of day."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        """Virtual time of day."""
        return datetime.fromtimestamp(time.time(), tz)


@contextmanager
def virtual_time() -> Iterator[None]:
    """Everything that reads the clock, ours and the library's, reads trio's; for the whole process."""
    readings: dict[str, Callable[[], float | int]] = {
        "time": lambda: EPOCH_S + _virtual_s(),
        "time_ns": lambda: int((EPOCH_S + _virtual_s()) * 1e9),
        "monotonic": lambda: 1_000 + _virtual_s(),
        "monotonic_ns": lambda: int((1_000 + _virtual_s()) * 1e9),
    }
    with ExitStack() as stack:
        for name, reading in readings.items():
            stack.enter_context(mock.patch.object(time, name, reading))
        stack.enter_context(mock.patch.object(kad_common, "datetime", _VirtualDatetime))
        # A thread of the library would look at the clock in real time; what it clears away, a run never fills.
        stack.enter_context(mock.patch.object(BaseTimedCache, "_background_cleanup", return_value=None))
        yield


@contextmanager
def numbered_objects() -> Iterator[None]:
    """Numbers in place of memory addresses and random ids, where the library's choices follow them.

    It takes the connection with the higher ``id()`` for a new stream, and goes through sets of streams and of tasks.
    """
    numbers = itertools.count(1)

    def number_of(item: Any) -> int:
        known: int | None = item.__dict__.get("_replay_number")
        if known is None:
            known = item.__dict__["_replay_number"] = next(numbers)
        return known

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(library_swarm, "id", number_of, create=True))
        for kind in (SwarmConn, NetStream, BaseTask, TrioBaseTask):
            stack.enter_context(mock.patch.object(kind, "__hash__", number_of))
        yield


def replay(seed: int, main: Callable[[random.Random], Any]) -> Any:
    """Run ``await main(rng)`` in virtual time; equal seeds give equal runs. Needs ``require_fixed_hashes``."""
    state = random.getstate()
    random.seed(seed)  # the library draws from the global one; ours from the one handed in
    try:
        with seeded_scheduler(seed), virtual_time(), numbered_objects():
            return trio.run(main, random.Random(seed), clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        random.setstate(state)
