"""Rounds of replica maintenance: look, plan, carry out, note what came of it (3.10).

Failures are collected and end no round. A transfer counts as done once its target says that it keeps the content; a
move then has its source give the copy up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs
import structlog
import trio

from agent_world.config import ReplicasConfig
from agent_world.distfs.replicas import (
    ReplicaMaintenancePlan,
    ReplicaReleaseTask,
    ReplicaTransferTask,
    TransferKind,
)
from agent_world.errors import Refused
from agent_world.node.counters import Counters
from agent_world.node.holdings import Holdings
from agent_world.node.replica_ask import ReplicaAsker
from agent_world.node.replica_look import Look, ReplicaLooker
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import MIB
from agent_world.wire.replica import Holding, ReplicaAsk

_log = structlog.get_logger("agent_world.replicas")

ROUND_BYTES_MAX: Final = 1_024 * MIB
"""Content that one round has copied; a larger one goes alone. What is left is planned again."""
AT_ONCE: Final = 4
"""Requests to others at the same time."""
CONFIRM_S: Final = 30.0
"""So long a round waits for its copies; what comes later is seen by the next one."""
CONFIRM_EVERY_S: Final = 1.0
FAILED_SHOWN: Final = 50
Task = ReplicaTransferTask | ReplicaReleaseTask


@attrs.define(slots=True)
class ReplicaMaintenanceReport:
    """What came of a plan."""

    attempted_tasks: int = 0
    succeeded_tasks: int = 0
    under_way_tasks: int = 0
    """Taken on by their target and not done when the round ended."""
    deferred_tasks: int = 0
    """Left for later rounds: more bytes than one round has copied."""
    copied_bytes: int = 0
    """Of the contents copied, as their creators stated them."""
    failed_tasks: list[tuple[Task, str]] = attrs.Factory(list)


@attrs.frozen(slots=True)
class ReplicaMaintenanceRound:
    """One round that was carried out."""

    polled_at_ms: int
    plan: ReplicaMaintenancePlan
    look: Look
    report: ReplicaMaintenanceReport


@attrs.define(slots=True)
class _Waits:
    """What a round has begun and not seen done."""

    waiting: dict[Task, Holding | None]
    """With what its node has last said."""
    look: Look
    report: ReplicaMaintenanceReport
    moved: list[ReplicaTransferTask] = attrs.Factory(list)

    def said(self, task: Task, holding: Holding) -> None:
        """A transfer is done once its target keeps the content, a release once its holder does not any more."""
        self.waiting[task] = holding
        if (holding in (Holding.HELD, Holding.BOUND)) is isinstance(task, ReplicaReleaseTask):
            return
        del self.waiting[task]
        self.report.succeeded_tasks += 1
        if isinstance(task, ReplicaTransferTask) and task.kind is TransferKind.REBALANCE:
            self.moved.append(task)


class ReplicaRounds:
    """Of one storage node; one round at a time."""

    def __init__(self, config: ReplicasConfig, holdings: Holdings, asker: ReplicaAsker, looker: ReplicaLooker) -> None:
        self._config = config
        self._holdings = holdings
        self._asker = asker
        self._looker = looker
        self._turn = trio.Lock()
        self.last: ReplicaMaintenanceRound | None = None
        self.next_at_ms = 0
        """When the next round is due, wall clock; 0: never by itself."""
        self.counters = Counters()

    async def run(self) -> None:
        """Until cancelled: a round every ``poll_interval_ms``."""
        pause_ms = self._config.poll_interval_ms
        while True:
            self.next_at_ms = self._holdings.wall_ms() + pause_ms
            await trio.sleep(pause_ms / 1_000)
            await self.round()

    async def round(self) -> ReplicaMaintenanceRound:
        """One round now."""
        async with self._turn:
            polled_at_ms = self._holdings.wall_ms()
            plan, look = await self._looker.plan()
            for cid in self._looker.orphans(look):
                self.counters.add("replicas.sought")
                self._holdings.hold(cid, None)
            report = ReplicaMaintenanceReport()
            await self._carry_out(plan, look, report)
            self.last = done = ReplicaMaintenanceRound(polled_at_ms, plan, look, report)
        self.counters.add("replicas.rounds")
        self.counters.add("replicas.attempted", report.attempted_tasks)
        self.counters.add("replicas.succeeded", report.succeeded_tasks)
        self.counters.add("replicas.failed", len(report.failed_tasks))
        self.counters.add("replicas.copied_bytes", report.copied_bytes)
        return done

    async def dry_run(self) -> tuple[ReplicaMaintenancePlan, Look]:
        """The plan of a round, without carrying it out; the next round begins where this one has."""
        async with self._turn:
            return await self._looker.rehearse()

    async def _carry_out(self, plan: ReplicaMaintenancePlan, look: Look, report: ReplicaMaintenanceReport) -> None:
        transfers: list[ReplicaTransferTask] = []
        for task in (*plan.repair_tasks, *plan.rebalance_tasks):
            size = look.contents[task.content_hash].size_bytes
            if transfers and report.copied_bytes + size > ROUND_BYTES_MAX:
                report.deferred_tasks += 1
                continue
            report.copied_bytes += size
            transfers.append(task)
        report.attempted_tasks = len(transfers) + len(plan.release_tasks)
        taken: list[Task] = []
        limit = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            for each in (*transfers, *plan.release_tasks):
                nursery.start_soon(self._begin, each, look, (report, taken), limit)
        moved = await self._confirm(taken, look, report)
        releases = [
            ReplicaReleaseTask(content_hash=task.content_hash, holder_id=task.source_provider_id) for task in moved
        ]
        async with trio.open_nursery() as nursery:
            for release in releases:
                # What comes of it shows in the next round: the source takes its time to make sure of the others.
                nursery.start_soon(self._begin, release, look, (report, []), limit)

    async def _begin(
        self, task: Task, look: Look, into: tuple[ReplicaMaintenanceReport, list[Task]], limit: trio.CapacityLimiter
    ) -> None:
        report, taken = into
        cid = look.contents[task.content_hash].cid
        if isinstance(task, ReplicaReleaseTask):
            peer, ask, source = task.holder_id, ReplicaAsk.RELEASE, None
        else:
            peer, source = task.target_provider_id, task.source_provider_id
            ask = ReplicaAsk.HOLD if task.kind is TransferKind.REPAIR else ReplicaAsk.RELIEVE
        async with limit:
            try:
                await self._asker.ask(peer, ask, [cid], source)
            except Refused as error:
                report.failed_tasks.append((task, str(error)))
                if error.rule != "R10":  # a promise is over by the next round
                    self._looker.refused(peer, task.content_hash)
                self.counters.add(f"replicas.task_refused.{error.rule or error.code.value}")
                _log.info("a copy could not be planned", peer=peer, ask=ask.value, content=str(cid), error=str(error))
                return
        taken.append(task)

    async def _confirm(
        self, taken: Sequence[Task], look: Look, report: ReplicaMaintenanceReport
    ) -> list[ReplicaTransferTask]:
        """Wait for what was begun; the moves whose copy is there, of which the source can be relieved now."""
        waits = _Waits(dict.fromkeys(taken), look, report)
        with trio.move_on_after(CONFIRM_S):
            while waits.waiting:
                await trio.sleep(CONFIRM_EVERY_S)
                # At once, so that one that is slow to answer holds up none of the others.
                async with trio.open_nursery() as nursery:
                    for peer in dict.fromkeys(map(_whose, waits.waiting)):
                        nursery.start_soon(self._ask_done, peer, waits)
        for task, said in waits.waiting.items():
            if isinstance(task, ReplicaTransferTask) and said in (Holding.NAMED, Holding.UNKNOWN):
                # It has agreed and does nothing, or could not have the content: another one is asked next time.
                report.failed_tasks.append((task, f"it has agreed, and says {said.value}"))
                self._looker.refused(task.target_provider_id, task.content_hash)
                self.counters.add("replicas.not_begun")
                continue
            report.under_way_tasks += 1
            if isinstance(task, ReplicaReleaseTask):
                # It may not see enough others that hold it: another holder is asked next time.
                self._looker.refused(task.holder_id, task.content_hash)
        return waits.moved

    async def _ask_done(self, peer: PeerId, waits: _Waits) -> None:
        tasks = [task for task in waits.waiting if _whose(task) == peer]
        cids: list[Cid] = [waits.look.contents[task.content_hash].cid for task in tasks]
        try:
            answer = await self._asker.ask(peer, ReplicaAsk.STATUS, cids)
        except Refused as error:
            self.counters.add(f"replicas.no_status.{error.rule or error.code.value}")
            return
        for task, holding in zip(tasks, answer.holdings, strict=True):
            waits.said(task, holding)

    def status(self) -> dict[str, Any]:
        """For people."""
        last = self.last
        return {
            "next_round_at_ms": self.next_at_ms,
            "cursor": None if self._looker.cursor is None else str(self._looker.cursor),
            "passes": self._looker.passes,
            "last_round": None if last is None else {
                "polled_at_ms": last.polled_at_ms,
                **shown_plan(last.plan, last.look, self._holdings.target),
                "report": {
                    "attempted_tasks": last.report.attempted_tasks,
                    "succeeded_tasks": last.report.succeeded_tasks,
                    "under_way_tasks": last.report.under_way_tasks,
                    "deferred_tasks": last.report.deferred_tasks,
                    "copied_bytes": last.report.copied_bytes,
                    "failed_tasks": [
                        {"task": shown_task(task, last.look), "error": error}
                        for task, error in last.report.failed_tasks[:FAILED_SHOWN]
                    ],
                },
            },
        }  # fmt: skip


def _whose(task: Task) -> PeerId:
    return task.holder_id if isinstance(task, ReplicaReleaseTask) else task.target_provider_id


def shown_task(task: Task, look: Look) -> dict[str, Any]:
    """A task for JSON."""
    content = str(look.contents[task.content_hash].cid)
    if isinstance(task, ReplicaReleaseTask):
        return {"kind": "release", "content": content, "holder": task.holder_id}
    return {
        "kind": task.kind.value, "content": content, "source": task.source_provider_id,
        "target": task.target_provider_id,
    }  # fmt: skip


def shown_plan(plan: ReplicaMaintenancePlan, look: Look, target: int) -> dict[str, Any]:
    """A plan for JSON, and how many contents of those looked at have how many copies."""
    copies: dict[int, int] = {}
    for held in look.holders.values():
        copies[len(held)] = copies.get(len(held), 0) + 1
    return {
        "looked_at": len(look.contents),
        "below_target": sum(len(held) < target for held in look.holders.values()),
        "contents_by_copies": {str(count): copies[count] for count in sorted(copies)},
        "claims_doubted": look.doubted,
        "repair_tasks": [shown_task(task, look) for task in plan.repair_tasks],
        "rebalance_tasks": [shown_task(task, look) for task in plan.rebalance_tasks],
        "release_tasks": [shown_task(task, look) for task in plan.release_tasks],
        "warnings": list(plan.warnings),
    }
