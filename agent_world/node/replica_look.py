"""One storage node's rounds of planning: looks at contents in turn, asks who keeps them, and has copies made (3.10).

A node looks at those contents for which it is responsible among the storage nodes it is linked with. What nodes say
of themselves is checked by challenges before copies are counted, a few a round. The truth is always what holders
say now, so a planner that dies leaves nothing behind, and two that see different nodes do at worst too much: the
holder of a copy makes sure itself before it gives the copy up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from random import Random
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
from agent_world.errors import Refused
from agent_world.node.counters import Counters
from agent_world.node.holdings import PLANNERS_MAX, Holdings
from agent_world.node.replica_ask import ReplicaAsker
from agent_world.node.replica_release import Challenge
from agent_world.store.content import Content, ContentState, ContentTable
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import Holding, ReplicaResponse

PAGE: Final = 128
"""Rows looked through between two chances for other tasks."""
PAGES_MAX: Final = 64
"""Pages looked through in a round, however few of their contents are this node's to plan."""
CHECKS_MAX: Final = 8
"""Claims to hold a content that are challenged in a round."""
AGAIN_MAX: Final = 2
"""Of those that do not count: challenged again in a round, so that what was healed counts again before long."""
CHECKS_S: Final = 10.0
"""So long a round waits for them; who is slow is not doubted for it."""
BEYOND_MAX: Final = 16
"""Contents with too few copies whose providers are looked for in the DHT in a round."""
SHORT_MAX: Final = 4_096
"""Contents remembered as below their target whose planner is another; the oldest is forgotten."""
UNWILLING_MAX: Final = 4_096
"""Refusals remembered; the oldest is forgotten, and may come again."""
UNWILLING_ROUNDS: Final = 10
"""Who has refused something for a content is not asked for that again in so many rounds."""
_NOT_YET: Final = 2**16
"""As many uncertain holders as make sure that nothing is planned."""
VOID_MAX: Final = 4_096
"""Claims remembered as not made good; the oldest is forgotten, and may be found out again."""
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


@attrs.frozen(slots=True)
class Outside:
    """What a planner asks of the rest of its node."""

    describe: Callable[[PeerId], ProviderRecord]
    suspects: Callable[[PeerId], Iterable[str]]
    """Contents (CIDs as text) that a peer has last failed to show."""
    challenge: Challenge
    providers: Callable[[Sequence[ContentHash]], AbstractAsyncContextManager[list[PeerId]]]
    """Connected peers that the DHT names, as long as the block lasts."""
    random: Random


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
        self.cursor: Cid | None = None
        """The content after which the next round begins; None: at the first."""
        self.passes = 0
        """How often all contents were looked at."""
        self._known: set[PeerId] = set()
        """Storage nodes that have answered in the last round."""
        self._uncertain: set[PeerId] = set()
        """Those that were uncertain in it: now they count as gone."""
        self._void: OrderedDict[tuple[PeerId, Cid], None] = OrderedDict()
        """Claims that their holder has not made good, until it shows the content."""
        self._short: OrderedDict[Cid, int] = OrderedDict()
        """How often in a row content of another planner was found below its target."""
        self._unwilling: OrderedDict[tuple[PeerId, ContentHash], int] = OrderedDict()
        """In which round each has refused."""
        self._round = 0
        self.counters = Counters()

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
        before = (self.cursor, self.passes, self._known, set(self._uncertain), self._short.copy(), self._round)
        try:
            return await self.plan()
        finally:
            self.cursor, self.passes, self._known, self._uncertain, self._short, self._round = before

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
        uncertain = self._silent(members, said) if cids else 0
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
            coming = frozenset(peer for peer, state in states.items() if state is Holding.COMING)
            is_short = len(holders[cid.digest]) + len(coming) < self._holdings.target
            views[cid.digest] = ContentView(
                size_bytes=contents[cid.digest].size_bytes,
                coming=coming,
                uncertain=uncertain if self._is_turn(cid, members, is_short=is_short) else _NOT_YET,
                unwilling=frozenset(peer for peer in members if (peer, cid.digest) in self._unwilling),
                bound=frozenset(peer for peer, state in states.items() if state is Holding.BOUND),
            )
        # Who may be given a copy is a member; who was only found by the DHT is a holder and no more.
        return Look(contents, holders, views, [pool[peer] for peer in members if peer in pool], len(doubted))

    def _is_turn(self, cid: Cid, members: Sequence[PeerId], *, is_short: bool) -> bool:
        """Whether this node plans for the content: as the first by weight, or since those before it have not seen to
        what was too few for a look each. So a planner that fails or lies keeps no content short."""
        rank = first_by_weight(cid.digest, members, PLANNERS_MAX).index(self._holdings.own_id)
        looks = self._short.pop(cid, 0) + 1
        if not rank or not is_short:
            return not rank
        self._short[cid] = looks
        if len(self._short) > SHORT_MAX:
            self._short.popitem(last=False)
            self.counters.add("replicas.short_forgotten")
        return looks > rank

    def _silent(self, members: Sequence[PeerId], said: dict[PeerId, ReplicaResponse | None]) -> int:
        """How many have not answered, and had in the round before: a restart or a slow line is no loss yet."""
        answered = {peer for peer, answer in said.items() if answer is not None}
        uncertain = (self._known | set(members)) - answered - self._uncertain
        self._uncertain |= uncertain
        self._uncertain -= answered
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

    async def _doubted(self, answers: dict[PeerId, ReplicaResponse], cids: Sequence[Cid]) -> set[tuple[PeerId, Cid]]:
        """Claims of who has failed a challenge for that content, after a few more were challenged."""
        claims = [
            (peer, cid)
            for peer, answer in sorted(answers.items())
            for place, cid in enumerate(cids)
            if answer.holdings[place] in _KEEPS and peer != self._holdings.own_id
        ]
        suspects = {peer: frozenset(self._outside.suspects(peer)) for peer in answers}
        doubted = {claim for claim in claims if str(claim[1]) in suspects[claim[0]] or claim in self._void}
        believed = [claim for claim in claims if claim not in doubted]
        chosen = self._outside.random.sample(believed, min(CHECKS_MAX, len(believed)))
        # Who has failed is asked again, so that what was healed counts again.
        again = sorted(doubted, key=lambda claim: (claim[0], claim[1].to_bytes()))
        again = self._outside.random.sample(again, min(AGAIN_MAX, len(again)))
        with trio.move_on_after(CHECKS_S):
            await self._check_all(dict.fromkeys([*again, *chosen]), doubted)
        return doubted

    async def _check_all(self, claims: Iterable[tuple[PeerId, Cid]], doubted: set[tuple[PeerId, Cid]]) -> None:
        async with trio.open_nursery() as nursery:
            for claim in claims:
                nursery.start_soon(self._check, claim, doubted)

    async def _check(self, claim: tuple[PeerId, Cid], doubted: set[tuple[PeerId, Cid]]) -> None:
        try:
            outcome = (await self._outside.challenge(*claim))["outcome"]
        except Refused as error:
            outcome = f"not_asked.{error.code.value}"
        self.counters.add(f"replicas.checked.{outcome}")
        if outcome in ("failed", "not_kept"):
            doubted.add(claim)
            self._void[claim] = None
            if len(self._void) > VOID_MAX:
                self._void.popitem(last=False)
                self.counters.add("replicas.void_forgotten")
        elif outcome == "passed":
            doubted.discard(claim)
            self._void.pop(claim, None)

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
