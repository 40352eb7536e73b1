"""One storage node that is to give up copies, among others that hold them."""

from __future__ import annotations

import trio
from keepers import Keeper, KeeperNode

from agent_world.node.replica_release import RELEASE_MAX_S, Releases
from agent_world.store.content import ContentState
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import Holding


class Leaving:
    """One node that keeps ``contents``, as ``TARGET`` others do."""

    def __init__(self, node: KeeperNode, *numbers: int) -> None:
        self.node = node
        self.contents = node.name(*(numbers or (1,)), here=True)
        self.content = self.contents[0]
        self.releases = Releases(node.holdings, node.asker, node.table, node.chain.blobs, node.own)
        self.releases.challenge = node.challenge
        self.releases.withdraw = self._withdraw
        self.releases.collect = self._collect
        self.withdrawn: list[tuple[Cid, ContentState]] = []
        self.collected_s: list[float] = []
        self.collecting: list[Exception | float] = []
        """What becomes of the next collections: an error, or the seconds that they take."""
        self.frees = False
        """Whether they find that nobody may need what was given up."""

    def _withdraw(self, cid: Cid) -> None:
        self.withdrawn.append((cid, self.node.state(cid)))

    async def _collect(self) -> None:
        await trio.lowlevel.checkpoint()
        self.collected_s.append(trio.current_time())
        outcome = self.collecting.pop(0) if self.collecting else 0.0
        if isinstance(outcome, Exception):
            raise outcome
        await trio.sleep(outcome)  # virtual
        if self.frees:
            self.node.chain.home.database.execute("DELETE FROM gc_candidates")

    def hold(self, *keepers: Keeper) -> list[PeerId]:
        """More storage nodes; each keeps the content, or says so."""
        for keeper in keepers:
            keeper.holdings |= dict.fromkeys(self.contents, Holding.HELD)
        return self.node.link(*keepers)

    async def give_up(self, *, seconds: float = RELEASE_MAX_S + 1) -> bool:
        """Whether it was; everything is tried within ``seconds``."""
        for cid in self.contents:
            assert self.node.holdings.release(cid)
        with trio.move_on_after(seconds):
            await self.releases.run()
        assert not self.node.holdings.leaving
        return not any(self.is_kept(cid) for cid in self.contents)

    def is_kept(self, cid: Cid) -> bool:
        return self.node.state(cid) is ContentState.HAVE

    def nothing_has_gone(self) -> bool:
        return (
            all(self.is_kept(cid) and self.node.chain.blobs.has(cid.digest) for cid in self.contents)
            and not self.withdrawn
            and not self.collected_s
            and not self.node.own.discarded_bytes()
            and self.releases.counters["replicas.release_failed"] == len(self.contents)
            and not self.releases.counters["replicas.given_up"]
        )
