"""A planner of copies among five other storage nodes."""

from __future__ import annotations

from random import Random

from keepers import KeeperNode, named_where, ranked, refusing

from agent_world.distfs.replicas import ReplicaMaintenancePlan, TransferKind
from agent_world.errors import ErrorCode
from agent_world.node.replica_look import (
    Look,
    ReplicaLooker,
)
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import Holding, ReplicaAsk


class Looking:
    """A planner among five other storage nodes."""

    def __init__(self, node: KeeperNode) -> None:
        self.node = node
        self.looker = ReplicaLooker(node.config, node.table, node.holdings, node.asker, node.outside(Random(1)))
        self.peers = list(node.others)
        self._first = 0

    def content(self, *holders: PeerId, rank: int = 0, here: bool = False) -> Cid:
        """A content for which this node comes at that place by weight, and who keeps it."""
        (number,) = named_where(ranked(rank, among=self.node.holdings.members()), first=self._first)
        self._first = number + 1
        (cid,) = self.node.name(number, here=here)
        for peer in holders:
            self.node.others[peer].holdings[cid] = Holding.HELD
        return cid

    async def looks(self, count: int) -> tuple[ReplicaMaintenancePlan, Look]:
        for _ in range(count):
            plan, look = await self.looker.plan()
        return plan, look

    async def repairs(self) -> list[tuple[Cid, PeerId, PeerId]]:
        """Content, source and target of the repairs that a look leads to."""
        plan, look = await self.looker.plan()
        assert {task.kind for task in plan.repair_tasks} <= {TransferKind.REPAIR}
        return [
            (look.contents[task.content_hash].cid, task.source_provider_id, task.target_provider_id)
            for task in plan.repair_tasks
        ]

    def holders(self, look: Look, cid: Cid) -> set[PeerId]:
        return {record.provider_id for record in look.holders[cid.digest]}

    def silence(self, *peers: PeerId) -> None:
        for peer in peers:
            self.node.others[peer].on[ReplicaAsk.STATUS] = refusing("", ErrorCode.TIMEOUT)
