"""One storage node's rounds of planning: looks at contents in turn, asks who keeps them, and has copies made (3.10).

A node looks at those contents for which it is responsible among the storage nodes it is linked with. What nodes say
of themselves is checked by challenges before copies are counted, a few a round. The truth is always what holders
say now, so a planner that dies leaves nothing behind, and two that see different nodes do at worst too much: the
holder of a copy makes sure itself before it gives the copy up.
"""

from __future__ import annotations

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
    plan_replicas,
    responsible,
)
from agent_world.errors import Refused
from agent_world.node.counters import Counters
from agent_world.node.holdings import Holdings
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
BEYOND_MAX: Final = 16
"""Contents with too few copies whose providers are looked for in the DHT in a round."""
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
        self.counters = Counters()

    async def plan(self) -> tuple[ReplicaMaintenancePlan, Look]:
        """Look at the next contents, and plan; changes nothing but the place of the next look."""
        look = await self._look()
        policy = ReplicaMaintenancePolicy(
            **{field.name: getattr(self._config, field.name) for field in attrs.fields(ReplicaMaintenancePolicy)}
        )
        return plan_replicas(look.holders, look.pool, policy, self._holdings.wall_ms(), look.views), look

    async def _sample(self, members: Sequence[PeerId]) -> list[Content]:
        """The next contents that are this node's to plan."""
        chosen: list[Content] = []
        for _ in range(PAGES_MAX):
            page = self._table.named_after(self.cursor, PAGE)
            for row in page:
                if responsible(row.cid.digest, members) == self._holdings.own_id:
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
            views[cid.digest] = ContentView(
                size_bytes=contents[cid.digest].size_bytes,
                coming=frozenset(peer for peer, state in states.items() if state is Holding.COMING),
                uncertain=uncertain,
                bound=frozenset(peer for peer, state in states.items() if state is Holding.BOUND),
            )
        # Who may be given a copy is a member; who was only found by the DHT is a holder and no more.
        return Look(contents, holders, views, [pool[peer] for peer in members if peer in pool], len(doubted))

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
        doubted = {(peer, cid) for peer, cid in claims if str(cid) in suspects[peer]}
        chosen = self._outside.random.sample(claims, min(CHECKS_MAX, len(claims)))
        # Who has failed is asked again, so that what was healed counts again.
        again = sorted(doubted, key=lambda claim: (claim[0], claim[1].to_bytes()))[:CHECKS_MAX]
        async with trio.open_nursery() as nursery:
            for claim in dict.fromkeys([*again, *chosen]):
                nursery.start_soon(self._check, claim, doubted)
        return doubted

    async def _check(self, claim: tuple[PeerId, Cid], doubted: set[tuple[PeerId, Cid]]) -> None:
        try:
            outcome = (await self._outside.challenge(*claim))["outcome"]
        except Refused as error:
            outcome = f"not_asked.{error.code.value}"
        self.counters.add(f"replicas.checked.{outcome}")
        if outcome == "failed":
            doubted.add(claim)
        elif outcome == "passed":
            doubted.discard(claim)

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
