"""Collects garbage in a running node: on a period, above the watermark of the quota, and when asked (D9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
import structlog
import trio

from agent_world.config import StorageConfig
from agent_world.errors import ErrorCode, Refused
from agent_world.node.answers import Tell, untold
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector, Garbage
from agent_world.store.file_audit import Audit, FileIndexAuditReport
from agent_world.store.file_index import FileIndex
from agent_world.store.home import Home
from agent_world.store.pins import PinTable
from agent_world.wire.cid import ContentHash

_log = structlog.get_logger("agent_world.storage")

LOOK_EVERY_S: Final = 10.0
"""Pause between two looks at the quota; costs one row."""
TRY_AGAIN_S: Final = 60.0
"""Above the watermark with nothing to free, the store is walked no more often than this."""
AUDIT_STEPS: Final = 16
"""Between two chances for other tasks: most are a row of a table."""
ORPHAN_FILES_S: Final = 3_600.0
"""Files without a row are removed at this age: an import writes them before their rows."""


@attrs.frozen(slots=True, kw_only=True)
class Collected:
    """What one collection found and freed."""

    unreachable: Garbage
    """Content that nothing reached, whatever its age."""
    freed: Garbage
    """What went; of a dry run what would have gone."""
    missing: int
    """Links to content that is not here."""
    damaged: int
    """Of these, what was here until it was read; it is fetched again, and before that nothing was removed."""
    orphan_files: int
    took_ms: int
    dry_run: bool


class Collecting:
    """The collector of one node. What the chain has committed and what pins, files and the world name stays."""

    def __init__(self, home: Home, blobs: LocalCasStore, ledger: Ledger, config: StorageConfig, clock: Clock) -> None:
        self._home = home
        self._blobs = blobs
        self._ledger = ledger
        self._config = config
        self._clock = clock
        self._one_at_a_time = trio.Lock()
        self._last: Collected | None = None
        self._last_at_ms = 0
        self.lost: Callable[[ContentHash], None] = lambda _content: None
        """Told of content that was found damaged, to have it fetched again."""
        self.counters = Counters()

    async def run(self) -> None:
        """Until cancelled."""
        due_ms = self._clock.now_ms() + int(self._config.gc_period_s * 1000)
        full_ms = 0
        while True:
            await trio.sleep(LOOK_EVERY_S)
            now_ms = self._clock.now_ms()
            is_full = self._used() * 100 > self._config.quota_bytes * self._config.gc_above_percent
            if now_ms < due_ms and not (is_full and now_ms >= full_ms):
                continue
            due_ms, full_ms = now_ms + int(self._config.gc_period_s * 1000), now_ms + int(TRY_AGAIN_S * 1000)
            try:
                await self.collect(evict=is_full)
            except Refused as error:  # another process collects
                self.counters.add("gc.refused")
                _log.info("no collection", error=str(error))

    def _used(self) -> int:
        usage = self._blobs.usage()
        return usage.size_bytes - usage.kept_bytes

    async def collect(
        self, *, dry_run: bool = False, grace_ms: int | None = None, evict: bool = False, tell: Tell = untold
    ) -> Collected:
        """Look for garbage, and remove what is older than the grace.

        ``evict``: then also younger garbage, the oldest first, until the store is below its watermark. Raises Refused
        (ERR_BUSY) while another process collects.
        """
        grace = int(self._config.gc_grace_s * 1000) if grace_ms is None else grace_ms
        started_ms = self._clock.now_ms()
        async with self._one_at_a_time:
            collector = self._collector()
            with collector.alone():
                unreachable = await self._mark(collector, tell)
                if dry_run:
                    freed = collector.due(self._clock.wall_ms(), grace)
                else:
                    freed = await self._sweep(collector, grace, tell, evict=evict)
                missing, damaged = collector.missing, collector.damaged
        orphans = 0 if dry_run else self._blobs.remove_orphan_files(older_than_s=ORPHAN_FILES_S)
        collected = Collected(
            unreachable=unreachable, freed=freed, missing=missing, damaged=damaged, orphan_files=orphans,
            took_ms=self._clock.now_ms() - started_ms, dry_run=dry_run,
        )  # fmt: skip
        if not dry_run:
            self._last, self._last_at_ms = collected, self._clock.wall_ms()
            self.counters.add("gc.runs")
            self.counters.add("gc.freed", freed.items)
            self.counters.add("gc.freed_bytes", freed.size_bytes)
            _log.info("garbage collected", items=freed.items, size_bytes=freed.size_bytes, missing=missing)
        return collected

    def _collector(self) -> Collector:
        collector = Collector(self._home, self._blobs, lambda: (self._ledger.head.state_root,))
        collector.tell_lost(self._found_damaged)
        return collector

    def _found_damaged(self, content: ContentHash) -> None:
        self.counters.add("gc.damaged")
        self.lost(content)

    async def _mark(self, collector: Collector, tell: Tell) -> Garbage:
        for _ in collector.mark(self._clock.wall_ms()):
            tell({"marked": collector.marked})
            await trio.lowlevel.checkpoint()
        unreachable = Garbage()
        for step in collector.note(self._clock.wall_ms()):
            unreachable = step
            tell({"marked": collector.marked, "unreachable": step.items})
            await trio.lowlevel.checkpoint()
        return unreachable

    async def _sweep(self, collector: Collector, grace_ms: int, tell: Tell, *, evict: bool) -> Garbage:
        freed = Garbage()
        now_ms = self._clock.wall_ms()
        for step in collector.sweep(now_ms, grace_ms):
            freed = freed.plus(step.items, step.size_bytes)
            tell({"marked": collector.marked, "freed": freed.items})
            await trio.lowlevel.checkpoint()
        if evict:
            down_to = self._config.quota_bytes * self._config.gc_above_percent // 100
            for step in collector.sweep(now_ms, 0, down_to_bytes=down_to):
                freed = freed.plus(step.items, step.size_bytes)
                self.counters.add("gc.evicted", step.items)
                await trio.lowlevel.checkpoint()
        return freed

    async def audit(self, index: FileIndex, *, reads: bool, tell: Tell = untold) -> FileIndexAuditReport:
        """With ``reads`` every byte of files is read. Raises Refused (ERR_BUSY) while another process collects."""
        async with self._one_at_a_time:
            collector = self._collector()
            with collector.alone():
                audit = Audit(index, PinTable(self._home), self._blobs, collector, reads=reads)
                for number, _ in enumerate(audit.steps(self._clock.wall_ms())):
                    if number % AUDIT_STEPS == 0:
                        files, pins = audit.report.total_indexed_files, audit.report.total_pins
                        tell({"marked": collector.marked, "files": files, "pins": pins, "read_bytes": audit.read_bytes})
                        await trio.lowlevel.checkpoint()
        return audit.report

    async def remove(self, content: ContentHash) -> int:
        """Remove one blob that nothing reaches; its bytes.

        Raises Refused naming what reaches it, or if it is not here.
        """
        if not self._blobs.has(content):
            raise Refused(ErrorCode.NOT_FOUND, f"no blob {content.hex()} is stored here", rule="L1")
        size_bytes = self._blobs.stat(content).size_bytes
        async with self._one_at_a_time:
            collector = self._collector()
            with collector.alone():
                for _ in collector.mark(self._clock.wall_ms()):
                    await trio.lowlevel.checkpoint()
                if not collector.remove(content):
                    holder = await self._holder(collector, content)
                    raise Refused(ErrorCode.BAD_REQUEST, f"{content.hex()} stays: {holder}")
        self.counters.add("gc.removed")
        return size_bytes

    async def _holder(self, collector: Collector, content: ContentHash) -> str:
        for holder in collector.holders(content, self._clock.wall_ms()):
            await trio.lowlevel.checkpoint()
            if holder is not None:
                return holder
        return "something has begun to reach it"

    def status(self) -> dict[str, Any]:
        """For ``node status``."""
        last = self._last
        return {
            "quota_bytes": self._config.quota_bytes,
            "used_bytes": self._used(),
            "last_gc": None if last is None else {**shown(last), "at_ms": self._last_at_ms},
        }


def shown(collected: Collected) -> dict[str, Any]:
    """For JSON."""
    value: dict[str, Any] = attrs.asdict(collected)
    return value
