"""One storage node's rounds of planning: looks at contents in turn, asks who keeps them, and has copies made (3.10).

A node looks at those contents for which it is responsible among the storage nodes it is linked with. What nodes say
of themselves is checked by challenges before copies are counted, a few a round. The truth is always what holders
say now, so a planner that dies leaves nothing behind, and two that see different nodes do at worst too much: the
holder of a copy makes sure itself before it gives the copy up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from agent_world.config import ReplicasConfig
from agent_world.distfs.providers import ProviderRecord
from agent_world.distfs.replicas import (
    ContentView,
    ReplicaMaintenancePlan,
    ReplicaMaintenancePolicy,
    first_by_weight,
    plan_replicas,
)
from agent_world.node.counters import Counters
from agent_world.node.holdings import PLANNERS_MAX, Holdings
from agent_world.node.replica_ask import ReplicaAsker
from agent_world.node.replica_checks import Claim, ClaimChecks
from agent_world.node.replica_outside import Outside
from agent_world.store.content import Content, ContentState, ContentTable
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import Holding, ReplicaResponse

PAGE: Final = 128
"""Rows looked through between two chances for other tasks."""
PAGES_MAX: Final = 64
"""Pages looked through in a round, however few of their contents are this node's to plan."""
BEYOND_MAX: Final = 16
"""Contents with too few copies whose providers are looked for in the DHT in a round."""
SHORT_MAX: Final = 4_096
"""Contents remembered as below their target; the oldest is forgotten, and waited for a little longer."""
WAIT_LOOKS: Final = 2
"""For so many looks in a row at a content that is short, nodes that are silent for the first time are waited for."""
FETCHING_LOOKS: Final = 10
"""Who says for more looks in a row that it is fetching a content is not waited for: it may say so for ever."""
FETCHING_MAX: Final = 4_096
"""Contents remembered that somebody is fetching; the oldest is forgotten, and waited for a little longer."""
UNWILLING_MAX: Final = 4_096
"""Refusals remembered; the oldest is forgotten, and may come again."""
UNWILLING_ROUNDS: Final = 10
"""Who has refused something for a content is not asked for that again in so many rounds."""
_NOT_YET: Final = 2**16
"""As many uncertain holders as make sure that nothing is planned."""
_KEEPS: Final = (Holding.HELD, Holding.BOUND)


@attrs.frozen(slots=True)
class Look:
    """What a round has found out."""

    contents: dict[ContentHash, Content]
    holders: dict[ContentHash, list[ProviderRecord]]
    views: dict[ContentHash, ContentView]
    pool: list[ProviderRecord]
    doubted: int
    """Claims that do not count, as their holder has failed to show the content."""


class ReplicaLooker:
    """Finds out who keeps what; remembers how far it has come and who was silent."""

    def __init__(
        self, config: ReplicasConfig, table: ContentTable, holdings: Holdings, asker: ReplicaAsker, outside: Outside
    ) -> None:
        self._config = config
        self._table = table
        self._holdings = holdings
        self._asker = asker
        self._outside = outside
        self._checks = ClaimChecks(outside)
        self.cursor: Cid | None = None
        """The content after which the next round begins; None: at the first."""
        self.passes = 0
        """How often all contents were looked at."""
        self._known: set[PeerId] = set()
        """Storage nodes that have answered in the last round."""
        self._uncertain: set[PeerId] = set()
        """Those that were silent in it: now they count as gone."""
        self._short: OrderedDict[Cid, int] = OrderedDict()
        """How often in a row each content was found below its target."""
        self._fetching: OrderedDict[Cid, dict[PeerId, int]] = OrderedDict()
        """At how many looks in a row each peer has said that it was fetching the content."""
        self._unwilling: OrderedDict[tuple[PeerId, ContentHash], int] = OrderedDict()
        """In which round each has refused."""
        self._round = 0
        self.counters = Counters()
        self.check_counters = self._checks.counters

    def refused(self, peer: PeerId, content: ContentHash) -> None:
        """The peer does not do what was planned for this content; others are asked next time."""
        self._unwilling[peer, content] = self._round
        self._unwilling.move_to_end((peer, content))
        if len(self._unwilling) > UNWILLING_MAX:
            self._unwilling.popitem(last=False)
            self.counters.add("replicas.unwilling_forgotten")

    async def plan(self) -> tuple[ReplicaMaintenancePlan, Look]:
        """Look at the next contents, and plan; nothing is done yet."""
        look = await self._look()
        policy = ReplicaMaintenancePolicy(
            **{field.name: getattr(self._config, field.name) for field in attrs.fields(ReplicaMaintenancePolicy)}
        )
        now_ms, planners = self._holdings.wall_ms(), max(1, len(look.pool))
        return plan_replicas(look.holders, look.pool, policy, now_ms, look.views, planners), look

    async def rehearse(self) -> tuple[ReplicaMaintenancePlan, Look]:
        """As ``plan``, and afterwards everything that is remembered from look to look is as before."""
        before = (self.cursor, self.passes, self._known, self._uncertain, self._round)
        remembered = (self._short.copy(), self._fetching.copy(), self._unwilling.copy())
        try:
            return await self.plan()
        finally:
            self.cursor, self.passes, self._known, self._uncertain, self._round = before
            self._short, self._fetching, self._unwilling = remembered

    async def _sample(self, members: Sequence[PeerId]) -> list[Content]:
        """The next contents that this node may plan: as the first by weight, or for those before it."""
        chosen: list[Content] = []
        for _ in range(PAGES_MAX):
            page = self._table.named_after(self.cursor, PAGE)
            for row in page:
                if self._holdings.own_id in first_by_weight(row.cid.digest, members, PLANNERS_MAX):
                    chosen.append(row)
                self.cursor = row.cid
                if len(chosen) == self._config.max_content_hash_samples_per_round:
                    return chosen
            if len(page) < PAGE:
                self.cursor = None
                self.passes += 1
                return chosen
            await trio.lowlevel.checkpoint()
        return chosen

    async def _look(self) -> Look:
        self._round += 1
        while self._unwilling and next(iter(self._unwilling.values())) <= self._round - UNWILLING_ROUNDS:
            self._unwilling.popitem(last=False)
        members = self._holdings.members()
        sample = await self._sample(members)
        contents = {row.cid.digest: row for row in sample}
        cids = [row.cid for row in sample]
        said = await self._asker.status_of_all(members, cids) if cids else {}
        silent = self._silent(members, said) if cids else 0
        answers = {peer: answer for peer, answer in said.items() if answer is not None}
        await self._ask_beyond(answers, cids)
        doubted = await self._doubted(answers, cids)
        now_ms = self._holdings.wall_ms()
        pool = {peer: self._record(peer, answer, now_ms) for peer, answer in answers.items()}
        holders: dict[ContentHash, list[ProviderRecord]] = {}
        views: dict[ContentHash, ContentView] = {}
        for place, cid in enumerate(cids):
            states = {peer: answer.holdings[place] for peer, answer in answers.items()}
            holders[cid.digest] = [
                pool[peer] for peer, state in states.items() if state in _KEEPS and (peer, cid) not in doubted
            ]
            fetching = frozenset(peer for peer, state in states.items() if state is Holding.COMING)
            late = self._late(cid, fetching)
            coming = fetching - late
            is_short = len(holders[cid.digest]) + len(coming) < self._holdings.target
            rank = first_by_weight(cid.digest, members, PLANNERS_MAX).index(self._holdings.own_id)
            views[cid.digest] = ContentView(
                size_bytes=contents[cid.digest].size_bytes,
                coming=coming,
                uncertain=self._uncertainty(cid, rank, silent, is_short=is_short),
                unwilling=late | {peer for peer in members if (peer, cid.digest) in self._unwilling},
                bound=frozenset(peer for peer, state in states.items() if state is Holding.BOUND),
            )
        # Who may be given a copy is a member; who was only found by the DHT is a holder and no more.
        return Look(contents, holders, views, [pool[peer] for peer in members if peer in pool], len(doubted))

    def _uncertainty(self, cid: Cid, rank: int, silent: int, *, is_short: bool) -> int:
        """How many may hold the content beside those that say so; _NOT_YET if another plans for it.

        The first by weight plans, and the next two since those before them have not seen to what was too few for a
        look each: a planner that fails or lies keeps no content short. Nor do nodes that come, say nothing and go,
        another one in each round: after a few looks nobody is waited for.
        """
        looks = self._short.pop(cid, 0) + 1
        if not is_short:
            return _NOT_YET if rank else silent
        self._short[cid] = looks
        if len(self._short) > SHORT_MAX:
            self._short.popitem(last=False)
            self.counters.add("replicas.short_forgotten")
        if looks <= rank:
            return _NOT_YET
        return silent if looks - rank <= WAIT_LOOKS else 0

    def _late(self, cid: Cid, fetching: frozenset[PeerId]) -> frozenset[PeerId]:
        """Who of those that say they are fetching it has said so for too long to be waited for."""
        before = self._fetching.pop(cid, {})
        if not fetching:
            return frozenset()
        self._fetching[cid] = looks = {peer: before.get(peer, 0) + 1 for peer in fetching}
        if len(self._fetching) > FETCHING_MAX:
            self._fetching.popitem(last=False)
            self.counters.add("replicas.fetching_forgotten")
        return frozenset(peer for peer, count in looks.items() if count > FETCHING_LOOKS)

    def _silent(self, members: Sequence[PeerId], said: dict[PeerId, ReplicaResponse | None]) -> int:
        """How many have not answered, and had in the round before: a restart or a slow line is no loss yet.

        A member that has never answered counts too, once: it may have come back with what it holds.
        """
        answered = {peer for peer, answer in said.items() if answer is not None}
        silent = (self._known | set(members)) - answered
        uncertain = silent - self._uncertain
        self._uncertain = silent
        self._known = answered
        return len(uncertain)

    async def _ask_beyond(self, answers: dict[PeerId, ReplicaResponse], cids: Sequence[Cid]) -> None:
        """Of what too few members hold, ask those too whom the DHT names."""
        if not cids:
            return
        target = self._holdings.target
        short = [
            cid.digest
            for place, cid in enumerate(cids)
            if sum(answer.holdings[place] in _KEEPS for answer in answers.values()) < target
        ][:BEYOND_MAX]
        if not short:
            return
        async with self._outside.providers(short) as named:
            others = [peer for peer in named if peer not in answers and self._holdings.is_storage(peer)]
            found = await self._asker.status_of_all(others, cids)
        answers.update({peer: answer for peer, answer in found.items() if answer is not None})

    async def _doubted(self, answers: dict[PeerId, ReplicaResponse], cids: Sequence[Cid]) -> set[Claim]:
        """Claims of others that do not count."""
        return await self._checks.doubted(
            [
                (peer, cid)
                for peer, answer in sorted(answers.items())
                for place, cid in enumerate(cids)
                if answer.holdings[place] in _KEEPS and peer != self._holdings.own_id
            ]
        )

    def _record(self, peer: PeerId, answer: ReplicaResponse, now_ms: int) -> ProviderRecord:
        used, quota = answer.quota_bytes - answer.free_bytes, answer.quota_bytes
        return attrs.evolve(
            self._outside.describe(peer),
            last_seen_ms=now_ms,
            storage_total_bytes=quota,
            storage_available_bytes=answer.free_bytes,
            load_ratio_per_mille=1_000 * used // quota if quota else 1_000,
        )

    def orphans(self, look: Look) -> list[Cid]:
        """Of what was looked at: what nobody holds or fetches. A storage node that cares has to seek it itself."""
        return [
            look.contents[content].cid
            for content, held in look.holders.items()
            if not held
            and not look.views[content].coming
            and not look.views[content].uncertain
            and look.contents[content].state is ContentState.NAMED
        ]
