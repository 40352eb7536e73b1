"""Which copies of content are to be made, and which moved from full providers to idle ones (3.10). Pure.

Every node that plans sees about the same records. Rendezvous hashing says who of them is responsible for a content, so
that the work is planned once (K-3.6), and breaks ties between targets alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import attrs

from agent_world.config import require
from agent_world.crypto.hashing import hash32
from agent_world.distfs.providers import DEFAULT_POLICY, ProviderRecord, rank_providers
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId


@attrs.frozen(slots=True, kw_only=True)
class ReplicaMaintenancePolicy:
    """Source of the defaults: the reference system."""

    target_replicas_per_blob: int = 3
    max_repairs_per_round: int = 32
    """0: none."""
    max_rebalances_per_round: int = 32
    rebalance_source_load_min_per_mille: int = 850
    """A holder is relieved only if it is at least so loaded …"""
    rebalance_target_load_max_per_mille: int = 450
    """… and only by one that is at most so loaded."""

    def __attrs_post_init__(self) -> None:
        require(self.target_replicas_per_blob > 0, "replicas.target_replicas_per_blob must be above 0")
        for name in ("max_repairs_per_round", "max_rebalances_per_round"):
            require(getattr(self, name) >= 0, f"replicas.{name} must not be negative")


class TransferKind(StrEnum):
    """Why content is copied."""

    REPAIR = "repair"
    REBALANCE = "rebalance"


@attrs.frozen(slots=True, kw_only=True)
class ReplicaTransferTask:
    """One copy; a rebalance ends with the source giving its own up."""

    kind: TransferKind
    content_hash: ContentHash
    source_provider_id: PeerId
    target_provider_id: PeerId


@attrs.frozen(slots=True, kw_only=True)
class ReplicaMaintenancePlan:
    """In the order in which it is carried out: repairs first."""

    repair_tasks: tuple[ReplicaTransferTask, ...]
    rebalance_tasks: tuple[ReplicaTransferTask, ...]
    warnings: tuple[str, ...]
    """Contents that could not be planned as the policy wants."""


Holders = Mapping[ContentHash, Sequence[ProviderRecord]]
"""Who holds each content, with what is known of them."""
_SEED: Final = b"agent-world replicas "


def weight(content: ContentHash, node: PeerId) -> bytes:
    """Rendezvous weight of a node for a content: the same for everybody who computes it."""
    return hash32(_SEED + content + node.encode())


def responsible(content: ContentHash, nodes: Collection[PeerId]) -> PeerId | None:
    """Who of ``nodes`` plans for a content: the one of the highest weight; None without any."""
    return max(nodes, key=lambda node: (weight(content, node), node), default=None)


def plan_replicas(
    holders: Holders, candidates: Iterable[ProviderRecord], policy: ReplicaMaintenancePolicy, now_ms: int
) -> ReplicaMaintenancePlan:
    """Copies of what too few hold, then moves from loaded holders to idle candidates.

    ``candidates`` are all nodes that may hold content, holders or not, idle ones too (K-3.6).
    """
    return _Planner(holders, candidates, policy, now_ms).plan()


class _Planner:
    """One round."""

    def __init__(
        self, holders: Holders, candidates: Iterable[ProviderRecord], policy: ReplicaMaintenancePolicy, now_ms: int
    ) -> None:
        self._policy = policy
        self._now_ms = now_ms
        self._held = {content: _newest(records) for content, records in sorted(holders.items())}
        everybody = [*candidates, *(record for records in self._held.values() for record in records.values())]
        self._pool = _newest(everybody)
        self._warnings: list[str] = []

    def plan(self) -> ReplicaMaintenancePlan:
        repairs: list[ReplicaTransferTask] = []
        for content in self._held:
            if room := self._policy.max_repairs_per_round - len(repairs):
                repairs += self._repairs(content, room)
        rebalances: list[ReplicaTransferTask] = []
        for content, records in self._held.items():
            if len(rebalances) >= self._policy.max_rebalances_per_round:
                break
            # A copy on its way is no copy yet: what is repaired is not moved in the same round.
            task = self._rebalance(content) if len(records) >= self._policy.target_replicas_per_blob else None
            if task is not None:
                rebalances.append(task)
        return ReplicaMaintenancePlan(
            repair_tasks=tuple(repairs), rebalance_tasks=tuple(rebalances), warnings=tuple(self._warnings)
        )

    def _repairs(self, content: ContentHash, room: int) -> list[ReplicaTransferTask]:
        records = self._held[content]
        needed = self._policy.target_replicas_per_blob - len(records)
        if needed <= 0:
            return []
        if not records:
            self._warnings.append(f"{content.hex()}: no source")
            return []
        source = rank_providers(records.values(), self._now_ms, _EVERYBODY)[0].provider_id
        busy = self._policy.rebalance_target_load_max_per_mille
        targets = sorted(
            (peer for peer, record in self._pool.items() if peer not in records and _has_room(record)),
            key=lambda peer: (_load(self._pool[peer]) > busy, weight(content, peer)),
        )
        chosen = targets[: min(needed, room)]
        if len(chosen) < needed:
            self._warnings.append(f"{content.hex()}: {needed} copies are needed, {len(chosen)} are planned")
        return [_task(TransferKind.REPAIR, content, source, target) for target in chosen]

    def _rebalance(self, content: ContentHash) -> ReplicaTransferTask | None:
        records, policy = self._held[content], self._policy
        loaded = [record for record in records.values() if _load(record) >= policy.rebalance_source_load_min_per_mille]
        idle = [
            record
            for peer, record in self._pool.items()
            if peer not in records
            and _load(record) <= policy.rebalance_target_load_max_per_mille
            and record.load_ratio_per_mille is not None
            and _has_room(record)
        ]
        if not loaded or not idle:
            return None
        source = min(loaded, key=lambda record: (-_load(record), -record.last_seen_ms, record.provider_id))
        target = min(idle, key=lambda record: (_load(record), -record.last_seen_ms, record.provider_id))
        return _task(TransferKind.REBALANCE, content, source.provider_id, target.provider_id)


_EVERYBODY: Final = attrs.evolve(DEFAULT_POLICY, max_candidates=0)


def _task(kind: TransferKind, content: ContentHash, source: PeerId, target: PeerId) -> ReplicaTransferTask:
    return ReplicaTransferTask(kind=kind, content_hash=content, source_provider_id=source, target_provider_id=target)


def _newest(records: Iterable[ProviderRecord]) -> dict[PeerId, ProviderRecord]:
    found: dict[PeerId, ProviderRecord] = {}
    for record in records:
        known = found.get(record.provider_id)
        if known is None or record.last_seen_ms > known.last_seen_ms:
            found[record.provider_id] = record
    return found


def _load(record: ProviderRecord) -> int:
    """Half for who has not said."""
    return 500 if record.load_ratio_per_mille is None else record.load_ratio_per_mille


def _has_room(record: ProviderRecord) -> bool:
    return record.storage_available_bytes is None or record.storage_available_bytes > 0
