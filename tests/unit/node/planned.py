"""Rounds of replica maintenance of which is said beforehand what is planned."""

from __future__ import annotations

from typing import cast

import trio
from keepers import (
    CONFIG,
    ME,
    Keeper,
    KeeperNode,
    named,
)

from agent_world.distfs.replicas import (
    ReplicaMaintenancePlan,
    ReplicaReleaseTask,
    ReplicaTransferTask,
    TransferKind,
)
from agent_world.node.replica_look import Look, ReplicaLooker
from agent_world.node.replica_round import (
    ReplicaMaintenanceReport,
    ReplicaRounds,
)
from agent_world.store.content import Content, ContentState
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId, TimeMs
from agent_world.wire.replica import ReplicaAsk

Task = ReplicaTransferTask | ReplicaReleaseTask


class Planned:
    """In the place of the looker: what it has planned and seen is said beforehand."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.contents: dict[ContentHash, Content] = {}
        self.nobody_holds: list[Cid] = []
        self.refusals: list[tuple[PeerId, ContentHash]] = []
        self.rehearsed = 0
        self.cursor: Cid | None = None
        self.passes = 7

    def content(self, number: int, size_bytes: int = 10) -> Cid:
        cid = named(number)
        self.contents[cid.digest] = Content(
            cid=cid, size_bytes=size_bytes, state=ContentState.NAMED, attempts=0, next_try_ms=TimeMs(0), last_error=""
        )
        return cid

    def repair(self, number: int, target: PeerId, source: PeerId = ME, size_bytes: int = 10) -> ReplicaTransferTask:
        return self._transfer(TransferKind.REPAIR, number, (source, target), size_bytes)

    def move(self, number: int, target: PeerId, source: PeerId) -> ReplicaTransferTask:
        return self._transfer(TransferKind.REBALANCE, number, (source, target), 10)

    def _transfer(
        self, kind: TransferKind, number: int, ends: tuple[PeerId, PeerId], size_bytes: int
    ) -> ReplicaTransferTask:
        task = ReplicaTransferTask(
            kind=kind, content_hash=self.content(number, size_bytes).digest, source_provider_id=ends[0],
            target_provider_id=ends[1],
        )  # fmt: skip
        self.tasks.append(task)
        return task

    def release(self, number: int, holder: PeerId) -> ReplicaReleaseTask:
        task = ReplicaReleaseTask(content_hash=self.content(number).digest, holder_id=holder)
        self.tasks.append(task)
        return task

    async def plan(self) -> tuple[ReplicaMaintenancePlan, Look]:
        await trio.lowlevel.checkpoint()
        moves = [task for task in self.tasks if isinstance(task, ReplicaTransferTask)]
        plan = ReplicaMaintenancePlan(
            repair_tasks=tuple(task for task in moves if task.kind is TransferKind.REPAIR),
            rebalance_tasks=tuple(task for task in moves if task.kind is TransferKind.REBALANCE),
            release_tasks=tuple(task for task in self.tasks if isinstance(task, ReplicaReleaseTask)),
        )
        return plan, Look(contents=dict(self.contents), holders={}, views={}, pool=[], doubted=0)

    async def rehearse(self) -> tuple[ReplicaMaintenancePlan, Look]:
        self.rehearsed += 1
        return await self.plan()

    def orphans(self, _look: Look) -> list[Cid]:
        return self.nobody_holds

    def refused(self, peer: PeerId, content: ContentHash) -> None:
        self.refusals.append((peer, content))


class Rounds:
    def __init__(self, node: KeeperNode) -> None:
        self.node = node
        self.planned = Planned()
        self.rounds = ReplicaRounds(CONFIG, node.holdings, node.asker, cast(ReplicaLooker, self.planned))
        self.peers = list(node.others)

    def keeper(self, number: int) -> Keeper:
        return self.node.others[self.peers[number]]

    async def round(self) -> ReplicaMaintenanceReport:
        """One; then nothing is planned any more."""
        report = (await self.rounds.round()).report
        self.planned.tasks.clear()
        return report

    def sent(self, ask: ReplicaAsk) -> list[tuple[PeerId, tuple[Cid, ...]]]:
        return [(peer, contents) for peer, asked, contents in self.node.asked if asked is ask]
