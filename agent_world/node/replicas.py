"""Replica maintenance as one part of a node: what it keeps and answers, its rounds as a planner, what it gives up."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final

import trio

from agent_world.errors import ErrorCode, Refused
from agent_world.handlers.replica import ReplicaHandler
from agent_world.node.counters import Counters
from agent_world.node.holdings import HoldingParts, Holdings
from agent_world.node.replica_ask import ReplicaAsker
from agent_world.node.replica_look import ReplicaLooker
from agent_world.node.replica_outside import Outside
from agent_world.node.replica_release import Releases
from agent_world.node.replica_round import ReplicaRounds, shown_plan
from agent_world.store.content import ContentState, ContentTable
from agent_world.store.home import Home
from agent_world.store.own_content import OwnContent
from agent_world.wire import rpc
from agent_world.wire.cid import Cid

if TYPE_CHECKING:
    from agent_world.node.node import Node

REGISTER_PAGE: Final = 256


class Replicas:
    """Of one node; ``run`` it after its parts are wired up."""

    def __init__(self, holdings: Holdings, rounds: ReplicaRounds, releases: Releases, node: Node) -> None:
        self.holdings = holdings
        self.rounds = rounds
        self.releases = releases
        self._table: ContentTable = node.content
        self._discovery = node.discovery
        self.counters = Counters()
        self.parts_counted: list[Counters] = [holdings.counters, rounds.counters, releases.counters, self.counters]

    async def run(self) -> None:
        """Until cancelled."""
        if not self.holdings.takes_part():
            return
        await self._register_kept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.rounds.run)
            nursery.start_soon(self.releases.run)

    async def _register_kept(self) -> None:
        """What was kept and not yet announced when the process ended is announced now."""
        after: Cid | None = None
        while page := self._table.named_after(after, REGISTER_PAGE):
            self._discovery.register(row.cid for row in page if row.state is ContentState.HAVE)
            after = page[-1].cid
            await trio.lowlevel.checkpoint()

    def kept(self, cid: Cid) -> None:
        """All of this content is here now: it is announced if the world names it."""
        row = self._table.get(cid)
        if row is not None and row.is_named:
            self._discovery.register([cid])

    def status(self) -> dict[str, Any]:
        """For ``replicas status`` and ``node status``."""
        counts = self._table.counts()
        own = {
            state.value: {"items": counts[state].items, "bytes": counts[state].size_bytes}
            for state in (ContentState.HAVE, ContentState.NAMED, ContentState.WANTED, ContentState.FETCHING)
            if state in counts
        }
        return {
            "target": self.holdings.target,
            "takes_part": self.holdings.takes_part(),
            "storage_nodes": self.holdings.members(),
            "own": own,
            "leaving": len(self.holdings.leaving),
            "last_release_error": self.releases.last_error,
            **self.rounds.status(),
        }

    async def plan(self) -> dict[str, Any]:
        """What a round would do now; raises Refused (ERR_UNSUPPORTED) of a node that plans nothing."""
        self._require()
        plan, look = await self.rounds.dry_run()
        return shown_plan(plan, look, self.holdings.target)

    async def round(self) -> dict[str, Any]:
        """A round now; raises Refused (ERR_UNSUPPORTED) of a node that plans nothing."""
        self._require()
        await self.rounds.round()
        return self.status()

    def _require(self) -> None:
        if not self.holdings.takes_part():
            raise Refused(
                ErrorCode.UNSUPPORTED,
                "this node plans no copies: it does not store, or replicas.target_replicas_per_blob is 0",
            )

    def all_counters(self) -> dict[str, int]:
        """Of every part."""
        merged: dict[str, int] = {}
        for part in self.parts_counted:
            for name, count in part.items():
                merged[name] = merged.get(name, 0) + count
        return merged


def replicas_of(node: Node, home: Home) -> Replicas:
    """Of a node whose discovery and challenges are built."""
    config, own = node.settings.config, OwnContent(home)
    holdings = Holdings(
        HoldingParts(
            config=config.replicas, quota_bytes=config.storage.quota_bytes, role=node.settings.role,
            own_id=node.network.peer_id, ledger=node.ledger, peering=node.peering, blobs=node.blobs,
            table=node.content, own=own, clock=node.clock,
        )
    )  # fmt: skip
    asker = ReplicaAsker(node.network, holdings)
    challenger = node.challenges.challenger
    challenger.leaves_it = asker.leaves_it
    outside = Outside(
        describe=node.sources.describe,
        suspects=lambda peer: challenger.targets[peer].suspects if peer in challenger.targets else (),
        challenge=challenger.challenge,
        providers=node.client.providers,
        # Which claims are checked needs to be even, not secret: the range of a challenge is what nobody can foresee.
        random=Random(f"replicas {node.network.peer_id}"),
    )
    looker = ReplicaLooker(config.replicas, node.content, holdings, asker, outside)
    releases = Releases(holdings, asker, node.content, node.blobs, own)
    releases.challenge = challenger.challenge
    releases.withdraw = node.discovery.withdraw
    releases.collect = node.collecting.collect
    made = Replicas(holdings, ReplicaRounds(config.replicas, holdings, asker, looker), releases, node)
    handler = ReplicaHandler(holdings)
    handler.count = made.counters.add
    node.network.serve(rpc.REPLICA, handler.serve)
    made.parts_counted += [asker.counters, looker.counters, looker.check_counters]
    if node.puller is not None:
        holdings.begin()
        holdings.prefer = node.puller.prefer
        node.puller.assign(holdings, made.kept)
    return made
