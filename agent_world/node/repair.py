"""Fetches pending actions that gossip has lost: asks one neighbour a heartbeat what waits there (D7)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from random import Random
from typing import Final

import structlog
import trio

from agent_world.errors import Refused, RemoteError
from agent_world.handlers.action import BLAMELESS_RULES, open_pending, pool_digest
from agent_world.net.interface import DistributedNetwork
from agent_world.net.reputation import Offence
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.fetch import BlobFetcher
from agent_world.node.ledger import Ledger
from agent_world.node.pool import ActionPool
from agent_world.wire import record, rpc
from agent_world.wire.action import GetPendingRequest
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import U32, Hash32, PeerId
from agent_world.wire.limits import PENDING_IDS_MAX

_log = structlog.get_logger("agent_world.repair")

GRACE_SHARE: Final = 0.2
"""Of a heartbeat: what a neighbour names is fetched only after so long, as gossip mostly brings it meanwhile."""
REQUEST_TIMEOUT_S: Final = 2.0
"""A neighbour that is slower than this is not waited for; the next one is asked in the next heartbeat."""
REFUSED_MS: Final = 10_000
"""An action that was refused here is not fetched again for so long; the state or the room in the pool may change."""
REFUSED_MAX: Final = 16_384
"""Refused actions remembered; the oldest is forgotten."""
ADMITTED_AT_ONCE: Final = 32
"""Actions admitted between two chances for other tasks: each costs about 0.1 ms."""


class PendingRepair:
    """The repair of one node's pool. ``came`` and ``gone`` tell it of neighbours that have said hello."""

    def __init__(
        self,
        network: DistributedNetwork,
        ledger: Ledger,
        pool: ActionPool,
        fetcher: BlobFetcher,
        clock: Clock,
    ) -> None:
        self._network = network
        self._ledger = ledger
        self._pool = pool
        self._fetcher = fetcher
        self._clock = clock
        self._neighbours: OrderedDict[PeerId, None] = OrderedDict()
        self._refused: OrderedDict[Hash32, int] = OrderedDict()
        # Spreads the questions of many nodes in time; from the own id, so that a simulated run replays.
        self._jitter = Random(network.peer_id)
        self._newcomer = trio.Event()
        self.offence: Callable[[PeerId, Offence], None] = lambda peer, offence: network.gate.blame(peer, offence)
        """Told of a neighbour whose answer is none, or that serves actions which no node may hold."""
        self.counters = Counters()

    def came(self, peer: PeerId) -> None:
        """A neighbour of this world: it is the next to be asked, and at once."""
        self._neighbours[peer] = None
        self._neighbours.move_to_end(peer, last=False)
        self._newcomer.set()

    def gone(self, peer: PeerId) -> None:
        """The connection to it has ended."""
        self._neighbours.pop(peer, None)

    async def run(self, heartbeat_s: float) -> None:
        """Until cancelled; ``heartbeat_s`` is the longest time between two questions."""
        while True:
            self._newcomer = trio.Event()
            with trio.move_on_after(heartbeat_s * (0.75 + 0.25 * self._jitter.random())):
                await self._newcomer.wait()
            if self._neighbours:
                peer = next(iter(self._neighbours))
                self._neighbours.move_to_end(peer)
                await self._repair_from(peer, heartbeat_s * GRACE_SHARE)

    async def _repair_from(self, peer: PeerId, grace_s: float) -> None:
        self.counters.add("repair.asked")
        try:
            missing = await self._missing_here(peer)
        except Refused as error:
            self.counters.add(f"repair.refused.{error.code}")
            return
        except RemoteError as error:
            self.counters.add(f"repair.broken.{error.rule}")
            self.offence(peer, Offence.GARBAGE)
            _log.warning("peer's pending actions make no sense", peer=peer, rule=error.rule, detail=error.detail)
            return
        if not missing:
            return
        self.counters.add("repair.differed")
        await trio.sleep(grace_s)
        missing = [action_id for action_id in missing if self._is_wanted(action_id)]
        if missing:
            found = await self._fetcher.fetch(
                [ContentHash(action_id) for action_id in missing], [peer], timeout_s=REQUEST_TIMEOUT_S
            )
            # The oldest first: nonces then come in order.
            await self._admit(
                peer, {item: found[key] for item in reversed(missing) if (key := ContentHash(item)) in found}
            )

    async def _missing_here(self, peer: PeerId) -> list[Hash32]:
        """What waits at the peer and is wanted here, the newest arrival there first."""
        missing: dict[Hash32, None] = {}
        digest = pool_digest(self._pool.pending_ids())
        skip = 0
        while True:
            request = GetPendingRequest(world_id=self._ledger.world_id, digest=digest, skip=U32(skip))
            answer = open_pending(
                await self._network.request(
                    peer, rpc.GET_PENDING, record.to_bytes(request), timeout_s=REQUEST_TIMEOUT_S
                )
            )
            missing.update((item, None) for item in answer.action_ids if self._is_wanted(item))
            skip += PENDING_IDS_MAX
            # Nobody's pool is followed further than this node's own could reach.
            if len(answer.action_ids) < PENDING_IDS_MAX or skip >= self._pool.capacity:
                return list(missing)

    def _is_wanted(self, action_id: Hash32) -> bool:
        if self._pool.get(action_id) is not None or self._ledger.is_committed(action_id):
            return False
        return self._refused.get(action_id, 0) <= self._clock.now_ms()

    async def _admit(self, peer: PeerId, bodies: dict[Hash32, bytes]) -> None:
        for number, (action_id, data) in enumerate(bodies.items()):
            if number % ADMITTED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            try:
                if self._pool.admit(data, source=peer).is_new:
                    self.counters.add("repair.actions")
            except Refused as error:
                self.counters.add("repair.not_admitted")
                self._refused[action_id] = self._clock.now_ms() + REFUSED_MS
                while len(self._refused) > REFUSED_MAX:
                    self._refused.popitem(last=False)
                    self.counters.add("repair.refused_forgotten")
                if error.rule not in BLAMELESS_RULES:
                    self.offence(peer, Offence.INVALID_MESSAGE)
