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
class ReplicaReleaseTask:
    """One copy that is given up, once its holder has made sure of the others."""

    content_hash: ContentHash
    holder_id: PeerId


@attrs.frozen(slots=True, kw_only=True)
class ContentView:
    """What is known of a content beside its holders."""

    size_bytes: int = 0
    coming: frozenset[PeerId] = frozenset()
    """Who is fetching it: a copy soon, so none is planned instead, and nothing is moved meanwhile."""
    uncertain: int = 0
    """Nodes that may hold it and have not answered, once: too few to believe that a copy is lost."""
    bound: frozenset[PeerId] = frozenset()
    """Holders that keep it for reasons of their own, such as a pin."""
    unwilling: frozenset[PeerId] = frozenset()
    """Who has lately refused to do what was planned for it."""


@attrs.frozen(slots=True, kw_only=True)
class ReplicaMaintenancePlan:
    """In the order in which it is carried out: repairs first."""

    repair_tasks: tuple[ReplicaTransferTask, ...]
    rebalance_tasks: tuple[ReplicaTransferTask, ...]
    release_tasks: tuple[ReplicaReleaseTask, ...] = ()
    """Copies beyond the target that a holder can give up."""
    warnings: tuple[str, ...] = ()
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


def first_by_weight(content: ContentHash, nodes: Iterable[PeerId], count: int) -> tuple[PeerId, ...]:
    """The ``count`` nodes of the highest weight, the highest first: who takes new content, who may plan for it."""
    return tuple(sorted(nodes, key=lambda node: (weight(content, node), node), reverse=True)[:count])


def plan_replicas(
    holders: Holders,
    candidates: Iterable[ProviderRecord],
    policy: ReplicaMaintenancePolicy,
    now_ms: int,
    views: Mapping[ContentHash, ContentView] | None = None,
    planners: int = 1,
) -> ReplicaMaintenancePlan:
    """Copies of what too few hold, then surplus copies to give up, then moves from loaded holders to idle candidates.

    ``candidates`` are all nodes that may hold content, holders or not, idle ones too (K-3.6). A move makes a copy more
    than the target; a later round finds it and gives up that of the most loaded holder (K-3.7). What a plan moves
    counts in the loads that it goes on with, so that one round does not fill an idle node. ``planners`` plan at once,
    each for its contents: of what has to leave a loaded node each moves its share.
    """
    return _Planner(holders, candidates, policy, now_ms, (views or {}, planners)).plan()


class _Planner:
    """One round."""

    def __init__(
        self,
        holders: Holders,
        candidates: Iterable[ProviderRecord],
        policy: ReplicaMaintenancePolicy,
        now_ms: int,
        seen: tuple[Mapping[ContentHash, ContentView], int],
    ) -> None:
        self._policy = policy
        self._now_ms = now_ms
        self._views, self._planners = seen
        self._held = {content: _newest(records) for content, records in sorted(holders.items())}
        everybody = [*candidates, *(record for records in self._held.values() for record in records.values())]
        self._pool = _newest(everybody)
        self._moved_bytes: dict[PeerId, int] = {}
        """What this plan adds to a node, less what it takes off it."""
        self._warnings: list[str] = []

    def plan(self) -> ReplicaMaintenancePlan:
        repairs: list[ReplicaTransferTask] = []
        for content in self._held:
            if room := self._policy.max_repairs_per_round - len(repairs):
                repairs += self._repairs(content, room)
        releases: list[ReplicaReleaseTask] = []
        rebalances: list[ReplicaTransferTask] = []
        for content, records in self._held.items():
            surplus = len(records) - self._policy.target_replicas_per_blob
            if surplus < 0 or self._view(content).coming or self._view(content).uncertain:
                # A copy on its way is no copy yet: what is repaired is not moved in the same round.
                continue
            if surplus > 0:
                releases += self._releases(content, self._policy.max_rebalances_per_round - len(releases))
            elif len(rebalances) < self._policy.max_rebalances_per_round:
                rebalances += self._rebalance(content)
        return ReplicaMaintenancePlan(
            repair_tasks=tuple(repairs), rebalance_tasks=tuple(rebalances), release_tasks=tuple(releases),
            warnings=tuple(self._warnings),
        )  # fmt: skip

    def _view(self, content: ContentHash) -> ContentView:
        return self._views.get(content, _NOTHING)

    def _repairs(self, content: ContentHash, room: int) -> list[ReplicaTransferTask]:
        records, view = self._held[content], self._view(content)
        coming = view.coming - records.keys()
        needed = self._policy.target_replicas_per_blob - len(records) - len(coming)
        if needed <= 0 or needed <= view.uncertain:
            return []
        if not records:
            self._warnings.append(f"{content.hex()}: no source")
            return []
        source = rank_providers(records.values(), self._now_ms, _EVERYBODY)[0].provider_id
        busy = self._policy.rebalance_target_load_max_per_mille
        known = records.keys() | coming | view.unwilling
        targets = sorted(
            (peer for peer in self._pool if peer not in known and self._has_room(peer, view)),
            key=lambda peer: (self._load(peer) > busy, weight(content, peer)),
        )
        chosen = targets[: min(needed, room)]
        if len(chosen) < needed:
            self._warnings.append(f"{content.hex()}: {needed} copies are needed, {len(chosen)} are planned")
        for target in chosen:
            self._moves(target, view.size_bytes)
        return [_task(TransferKind.REPAIR, content, source, target) for target in chosen]

    def _releases(self, content: ContentHash, room: int) -> list[ReplicaReleaseTask]:
        """One a round for a content: its holder makes sure of all others, and two at once would get in their way."""
        view = self._view(content)
        free = [peer for peer in self._held[content] if peer not in view.bound | view.unwilling]
        if not free or room <= 0:
            return []
        # Among equally loaded holders the one goes that new content would have chosen last.
        holder = max(free, key=lambda peer: (self._loaded(peer), _inverted(weight(content, peer)), peer))
        self._moves(holder, -self._view(content).size_bytes)
        return [ReplicaReleaseTask(content_hash=content, holder_id=holder)]

    def _rebalance(self, content: ContentHash) -> list[ReplicaTransferTask]:
        records, policy, view = self._held[content], self._policy, self._view(content)
        loaded = [
            peer
            for peer in records
            if self._load(peer) >= policy.rebalance_source_load_min_per_mille
            and peer not in view.bound | view.unwilling
        ]
        idle = [
            peer
            for peer, record in self._pool.items()
            if peer not in records
            and peer not in view.unwilling
            and self._load(peer) <= policy.rebalance_target_load_max_per_mille
            and record.load_ratio_per_mille is not None
            and self._has_room(peer, view)
        ]
        if not loaded or not idle:
            return []
        source = min(loaded, key=lambda peer: (-self._load(peer), -records[peer].last_seen_ms, peer))
        target = min(idle, key=lambda peer: (self._load(peer), -self._pool[peer].last_seen_ms, peer))
        self._moves(source, -view.size_bytes * self._planners)
        self._moves(target, view.size_bytes)
        return [_task(TransferKind.REBALANCE, content, source, target)]

    def _moves(self, peer: PeerId, size_bytes: int) -> None:
        self._moved_bytes[peer] = self._moved_bytes.get(peer, 0) + size_bytes

    def _load(self, peer: PeerId) -> int:
        """As it will be; half for who has not said."""
        record = self._pool[peer]
        said = 500 if record.load_ratio_per_mille is None else record.load_ratio_per_mille
        total = record.storage_total_bytes
        return said + (1_000 * self._moved_bytes.get(peer, 0) // total if total else 0)

    def _loaded(self, peer: PeerId) -> int:
        """The load if it is high enough to be relieved, else 0."""
        load = self._load(peer)
        return load if load >= self._policy.rebalance_source_load_min_per_mille else 0

    def _has_room(self, peer: PeerId, view: ContentView) -> bool:
        free = self._pool[peer].storage_available_bytes
        return free is None or free - self._moved_bytes.get(peer, 0) > view.size_bytes


_NOTHING: Final = ContentView()
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


def _inverted(value: bytes) -> bytes:
    return bytes(255 - octet for octet in value)
