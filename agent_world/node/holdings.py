"""Which of the content that the world names this storage node keeps, and what it answers and promises about it.

New content is taken by the nodes that are first by rendezvous weight among the storage nodes that this one is linked
with; what differs between their views is put right by whoever plans copies (``replica_round``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from agent_world.config import ReplicasConfig
from agent_world.distfs.replicas import first_by_weight
from agent_world.errors import ErrorCode, Refused
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.node.peering import Peering
from agent_world.store.blobs import LocalCasStore
from agent_world.store.content import NEVER_MS, Content, ContentState, ContentTable
from agent_world.store.own_content import OwnContent
from agent_world.wire.cid import Cid
from agent_world.wire.hello import Role
from agent_world.wire.ids import U16, U64, PeerId, WorldId
from agent_world.wire.replica import Holding, ReplicaResponse

PLEDGE_MS: Final = 30_000
"""A copy that was promised is kept for so long; whoever relied on it is done by then (RELEASE_MAX_S)."""
PLEDGES_MAX: Final = 4_096
"""Promises at a time; above it none is given."""
LEAVING_MAX: Final = 256
"""Contents that wait to be given up; further ones are refused, and are planned again."""
PLANNERS_MAX: Final = 3
"""Who may plan for a content: the first by weight, and two more, as views of who is there differ for a while."""
GATHER_MS: Final = 10_000
"""A node that has just started waits so long for the others to come before it decides what is its share."""
MEET_MS: Final = 30_000
"""With fewer storage nodes known than copies are wanted, a node that has just started waits so long for others."""
NEW_MS: Final = 60_000
"""Content named longer ago than this, and than two rounds of planning, has its copies already, or gets them planned."""


@attrs.frozen(slots=True)
class HoldingParts:
    """What of the node takes part."""

    config: ReplicasConfig
    quota_bytes: int
    role: Role
    own_id: PeerId
    ledger: Ledger
    peering: Peering
    blobs: LocalCasStore
    table: ContentTable
    own: OwnContent
    clock: Clock


class Holdings:
    """Satisfies ``handlers.replica.ReplicaHost``."""

    def __init__(self, parts: HoldingParts) -> None:
        self._parts = parts
        self._started_ms = parts.clock.now_ms()
        self._pledges: OrderedDict[Cid, int] = OrderedDict()
        """Until when each is kept; all last equally long, so the first is the first to end."""
        self.leaving: OrderedDict[Cid, None] = OrderedDict()
        """What is to be given up, in order."""
        self.prefer: Callable[[Cid, PeerId], None] = lambda _cid, _source: None
        """Told who has content that is to be held."""
        self.leave_soon: Callable[[], None] = lambda: None
        """Told that something is to be given up."""
        self.counters = Counters()

    @property
    def world_id(self) -> WorldId:
        """Of the node's world."""
        return self._parts.ledger.world_id

    @property
    def own_id(self) -> PeerId:
        """Of this node."""
        return self._parts.own_id

    def wall_ms(self) -> int:
        """The wall clock."""
        return self._parts.clock.wall_ms()

    def now_ms(self) -> int:
        """The monotonic clock."""
        return self._parts.clock.now_ms()

    @property
    def target(self) -> int:
        """Wanted copies of each content; 0: every storage node keeps all."""
        return self._parts.config.target_replicas_per_blob

    def takes_part(self) -> bool:
        """Whether this node stores for the world and leaves content to others."""
        return self._parts.role is Role.STORAGE and self.target > 0

    def members(self) -> list[PeerId]:
        """Storage nodes that this one is linked with, and itself if it is one; ascending."""
        own = [self._parts.own_id] if self._parts.role is Role.STORAGE else []
        return sorted(
            [*own, *(peer for peer, hello in self._parts.peering.hellos.items() if hello.role is Role.STORAGE)]
        )

    def is_storage(self, peer: PeerId) -> bool:
        """Whether a connected peer has said that it stores."""
        hello = self._parts.peering.hellos.get(peer)
        return hello is not None and hello.role is Role.STORAGE

    def may_plan(self, peer: PeerId, content: Cid) -> bool:
        """Whether the peer is among the first by weight, as far as this node sees."""
        return peer in first_by_weight(content.digest, self.members(), PLANNERS_MAX)

    def begin(self) -> None:
        """Once, before anything is pulled: a node that keeps everything leaves nothing to others any more."""
        if not self.takes_part():
            self._parts.table.take_up_all(self._parts.clock.wall_ms())

    def named(self, contents: dict[Cid, int], at_ms: int) -> None:
        """The world names these, with their sizes in bytes, since a block of this time."""
        if self.takes_part() and contents:
            self._parts.table.name(contents.items(), at_ms)

    def undecided(self, limit: int) -> tuple[Content, ...]:
        """Named content of which this node should decide now whether to take it."""
        if not self.takes_part():
            return ()
        clock = self._parts.clock
        wait_ms = MEET_MS if len(self.members()) < self.target else GATHER_MS
        if clock.now_ms() - self._started_ms < wait_ms:
            return ()
        return self._parts.table.due(clock.wall_ms(), limit, ContentState.NAMED)

    def decide(self, item: Content, *, is_here: bool) -> None:
        """Take it or leave it to others. What is here is taken, or nobody would know of this copy.

        What does not fit is left too: a planner finds another place for it sooner than room comes about here.
        """
        members, now_ms = self.members(), self._parts.clock.wall_ms()
        is_new = now_ms - item.next_try_ms < max(NEW_MS, 2 * self._parts.config.poll_interval_ms)
        is_mine = self._parts.own_id in first_by_weight(item.cid.digest, members, self.target)
        wants = len(members) < self.target or (is_new and is_mine)
        if is_here or (wants and self.has_room(item.cid, is_relief=False)):
            self._parts.table.take_up(item.cid, now_ms)
            self.counters.add("replicas.taken")
        else:
            self._parts.table.leave([item.cid])
            self.counters.add("replicas.left")

    def hold(self, content: Cid, source: PeerId | None) -> None:
        """Fetch it and keep it, from ``source`` first."""
        if source is not None:
            self.prefer(content, source)
        if self._parts.table.take_up(content, self._parts.clock.wall_ms()):
            self.counters.add("replicas.taken_on_request")

    def is_pledged(self, content: Cid) -> bool:
        """Whether it was promised to be kept; promises from before the start are not remembered, so they are waited
        for."""
        now_ms = self._parts.clock.now_ms()
        return now_ms < self._pledges.get(content, 0) or now_ms - self._started_ms < PLEDGE_MS

    def is_leaving(self, content: Cid) -> bool:
        """Whether it waits to be given up."""
        return content in self.leaving

    def pledge(self, content: Cid) -> None:
        """Keep it for PLEDGE_MS from now on; raises Refused (ERR_BUSY) with too many promises."""
        now_ms = self._parts.clock.now_ms()
        while self._pledges and next(iter(self._pledges.values())) <= now_ms:
            self._pledges.popitem(last=False)
        if content not in self._pledges and len(self._pledges) >= PLEDGES_MAX:
            self.counters.add("replicas.pledges_refused")
            raise Refused(ErrorCode.BUSY, "too many copies are promised already", rule="R6")
        self._pledges[content] = now_ms + PLEDGE_MS
        self._pledges.move_to_end(content)

    def release(self, content: Cid) -> bool:
        """Give it up soon; False if too many wait for that."""
        if content not in self.leaving and len(self.leaving) >= LEAVING_MAX:
            self.counters.add("replicas.leaving_refused")
            return False
        self.leaving[content] = None
        self.leave_soon()
        return True

    def used_bytes(self) -> int:
        """Of the quota: what is stored, less what was given up, more what is on its way."""
        usage = self._parts.blobs.usage()
        here = usage.size_bytes - usage.kept_bytes - self._parts.own.discarded_bytes()
        return max(0, here) + self._parts.table.missing_bytes()

    def has_room(self, content: Cid, *, is_relief: bool) -> bool:
        """Whether it fits below the quota; of a relief, whether this node is then still no source of another."""
        row, quota = self._parts.table.get(content), self._parts.quota_bytes
        size = 0 if row is None else row.size_bytes
        used = self.used_bytes()
        if is_relief and 1_000 * used > quota * self._parts.config.rebalance_target_load_max_per_mille:
            return False
        return used + size <= quota

    def answer(self, contents: Sequence[Cid]) -> ReplicaResponse:
        """What this node keeps of these."""
        parts = self._parts
        here = parts.blobs.has_many([cid.digest for cid in contents])
        bound = parts.own.bound(contents, parts.clock.wall_ms())
        rows = parts.table.get_many(contents)
        quota = parts.quota_bytes
        return ReplicaResponse(
            holdings=tuple(
                self._holding(cid, rows.get(cid), is_here=cid.digest in here, is_bound=cid in bound) for cid in contents
            ),
            quota_bytes=U64(quota),
            free_bytes=U64(max(0, quota - self.used_bytes())),
            target=U16(self.target),
        )

    def _holding(self, cid: Cid, row: Content | None, *, is_here: bool, is_bound: bool) -> Holding:
        if not self.takes_part():
            if self._parts.role is not Role.STORAGE:
                return Holding.UNKNOWN
            is_whole = is_here and (row is None or row.state is ContentState.HAVE)
            return Holding.BOUND if is_whole else Holding.UNKNOWN if row is None else Holding.COMING
        if row is None or not row.is_named:
            return Holding.UNKNOWN
        if row.state is ContentState.HAVE and not is_here:
            # Gone behind the node's back: fetched again from now on, whoever asks.
            self._parts.table.mark_lost(cid, self._parts.clock.wall_ms())
            self.counters.add("storage.lost")
            return Holding.COMING
        if row.state is ContentState.HAVE:
            return Holding.BOUND if is_bound or self.is_pledged(cid) else Holding.HELD
        # Nobody plans a copy of what this node may be about to take.
        is_undecided = row.state is ContentState.NAMED and row.next_try_ms < NEVER_MS
        if is_undecided or row.state in (ContentState.WANTED, ContentState.FETCHING):
            return Holding.COMING
        return Holding.NAMED  # left to others, or not to be had
