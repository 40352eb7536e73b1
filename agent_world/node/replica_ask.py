"""Questions to storage nodes about copies, and what they are asked to do with them."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
import trio

from agent_world.errors import ErrorCode, Refused, RemoteError
from agent_world.handlers.replica import open_replicas
from agent_world.net.interface import DistributedNetwork
from agent_world.net.reputation import Offence
from agent_world.node.counters import Counters
from agent_world.node.holdings import Holdings
from agent_world.wire import record, rpc
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import Holding, ReplicaAsk, ReplicaRequest, ReplicaResponse

_log = structlog.get_logger("agent_world.replicas")


class ReplicaAsker:
    """Of one node; what is asked of the node itself is answered here."""

    def __init__(self, network: DistributedNetwork, holdings: Holdings) -> None:
        self._network = network
        self._holdings = holdings
        self.counters = Counters()

    async def status_of_all(
        self, peers: Sequence[PeerId], contents: Sequence[Cid]
    ) -> dict[PeerId, ReplicaResponse | None]:
        """What each keeps of ``contents``; None of who has not answered or answered wrongly."""
        found: dict[PeerId, ReplicaResponse | None] = dict.fromkeys(peers)

        async def ask(peer: PeerId) -> None:
            try:
                found[peer] = await self.ask(peer, ReplicaAsk.STATUS, contents)
            except Refused as error:
                self.counters.add(f"replicas.no_status.{error.rule or error.code.value}")

        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(ask, peer)
        return found

    async def leaves_it(self, peer: PeerId, content: Cid) -> bool:
        """Whether a node that does not keep everything says that it does not keep this; False if it says nothing."""
        try:
            said = await self.ask(peer, ReplicaAsk.STATUS, [content])
        except Refused:
            self.counters.add("replicas.no_word")
            return False
        return said.target > 0 and said.holdings[0] in (Holding.NAMED, Holding.COMING)

    async def ask(
        self, peer: PeerId, what: ReplicaAsk, contents: Sequence[Cid], source: PeerId | None = None
    ) -> ReplicaResponse:
        """One request; raises Refused, also for an answer that breaks a rule, which is held against the peer."""
        if peer == self._network.peer_id:
            return self._own(what, contents, source)
        request = ReplicaRequest(world_id=self._holdings.world_id, ask=what, contents=tuple(contents), source=source)
        answer = await self._network.request(peer, rpc.REPLICA, record.to_bytes(request))
        try:
            return open_replicas(answer, len(contents))
        except RemoteError as error:
            self._network.gate.blame(peer, Offence.GARBAGE)
            _log.warning("a peer gave no answer to what was asked", peer=peer, rule=error.rule, detail=error.detail)
            raise Refused(ErrorCode.NOT_AVAILABLE, f"its answer is wrong: {error}", rule=error.rule) from None

    def _own(self, what: ReplicaAsk, contents: Sequence[Cid], source: PeerId | None) -> ReplicaResponse:
        """As the handler would, but the node need not ask itself whether it may."""
        holdings = self._holdings
        for content in contents:
            if what in (ReplicaAsk.HOLD, ReplicaAsk.RELIEVE):
                holdings.hold(content, source)
            elif what is ReplicaAsk.RELEASE and not holdings.is_pledged(content):
                holdings.release(content)
        return holdings.answer(contents)
