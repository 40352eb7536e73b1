"""Keeps a node up while its disk refuses: parts pause and begin anew, and writing is tried until it works again.

What is damaged ends a node, since going on would hide it. A disk that is full, read-only or broken is shown in ``node
status`` instead: the node goes on serving what it can read, and signs nothing that its guard cannot keep (D4).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
import trio

from agent_world.errors import StoreFault, StoreNotWritable
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.store.blobs import LocalCasStore
from agent_world.store.disk_faults import DiskFaults, Doing

_log = structlog.get_logger("agent_world.storage")

PAUSE_S: Final = 2.0
"""A part that met a fault begins anew after it."""
WRITE_AGAIN_S: Final = 1.0
"""Pause between two tries of a write that cannot be left out."""
TRY_S: Final = 5.0
"""While something is refused, a write is tried this often; it costs a block and a row."""


class DiskWatch:
    """Of one node."""

    def __init__(self, faults: DiskFaults, blobs: LocalCasStore, clock: Clock) -> None:
        self._faults = faults
        self._blobs = blobs
        faults.wall_ms = clock.wall_ms
        self.counters = Counters()

    async def run(self) -> None:
        """Until cancelled: find out when writing works again, also where nobody else would try."""
        while True:
            await trio.sleep(TRY_S)
            if any(fault.doing is Doing.WRITE for fault in self._faults.present):
                try:
                    self._blobs.try_writing()
                except StoreNotWritable:
                    continue  # noted, and shown by ``status``
                _log.info("the disk takes writes again")

    async def endure(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run a part of the node; each time it meets a fault of the disk, begin it anew after a pause.

        Raises whatever else it raises. A part must be able to begin anew: what it was about is in the store.
        """
        while True:
            try:
                await part()
            except StoreFault as error:
                problem = error
            except BaseExceptionGroup as group:
                faults, others = group.split(StoreFault)
                if faults is None or others is not None:
                    raise
                problem = _first(faults)
            else:
                return
            self.counters.add(f"disk.paused.{name}")
            _log.error("a part of this node waits for the disk", part=name, problem=str(problem))
            await trio.sleep(PAUSE_S)

    def status(self) -> list[dict[str, Any]]:
        """What the disk refuses at present; empty while all is well."""
        return self._faults.shown()


async def until_written(
    write: Callable[[], Awaitable[None]], is_moot: Callable[[], bool], waiting: Callable[[StoreNotWritable], None]
) -> bool:
    """Write what this node must not go on without, however long the disk refuses it; ``waiting`` is told each time.

    Whether it was written here; False if it has become moot meanwhile.
    """
    while not is_moot():
        try:
            await write()
        except StoreNotWritable as error:
            _log.error("this node waits for its disk", problem=str(error))
            waiting(error)
            await trio.sleep(WRITE_AGAIN_S)
        else:
            return True
    return False


def _first(group: BaseExceptionGroup[StoreFault]) -> StoreFault:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, StoreFault), "the group was split by that"
    return inner
