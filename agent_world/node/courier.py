"""Brings consensus messages to the other validators: directly and at once, by gossip from a task of its own (D7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import trio

from agent_world.handlers.consensus import CHANNEL
from agent_world.net.interface import DistributedNetwork
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.node.peering import Peering
from agent_world.node.rumours import Rumours
from agent_world.wire import rpc
from agent_world.wire.ids import PeerId

GOSSIP_QUEUE_MAX: Final = 64
"""Messages waiting to be gossiped; above it the newest is dropped and counted, and has its next chance when it is
repeated. Several times what may be gossiped at once."""

VOTE_BYTES_USUAL: Final = 600
"""What is larger goes by the topic of proposals; both are judged alike."""


class Courier:
    """Of one validator. Nothing here waits for the network, which would hold up the round engine."""

    def __init__(self, network: DistributedNetwork, peering: Peering, ledger: Ledger, clock: Clock) -> None:
        self._network = network
        self._peering = peering
        self._ledger = ledger
        self._clock = clock
        self._rumours = Rumours()
        self._gossip, self._to_gossip = trio.open_memory_channel[bytes](GOSSIP_QUEUE_MAX)
        self.counters = Counters()

    def new_height(self) -> None:
        """None of the next messages has been sent before."""
        self._rumours.forget()

    def broadcast(self, data: bytes) -> None:
        """To all validators that are linked, and by gossip if it is due."""
        validators = self._peering.validators()
        for peer in validators:
            self._send(peer, data)
        # Gossip carries what the direct links do not: messages that reach no quorum, or did not help the first time
        # (D7). Who is left out of a quorum follows by its certificates; a dead validator must not cost gossip.
        enough_linked = 3 * (len(validators) + 1) > 2 * len(self._ledger.validators.record.validators)
        if self._rumours.is_due(data, self._clock.now_ms(), enough_linked=enough_linked):
            try:
                self._gossip.send_nowait(data)
            except trio.WouldBlock:
                self.counters.add("consensus.gossip_queue_full")

    def show(self, peer: PeerId, messages: Iterable[bytes]) -> None:
        """To one validator that has just come: what was sent before it was linked."""
        for data in messages:
            self._send(peer, data)
            self.counters.add("consensus.shown")

    def _send(self, peer: PeerId, data: bytes) -> None:
        if not self._network.send(peer, CHANNEL, data):
            self.counters.add("consensus.send_failed")

    async def run(self) -> None:
        """Gossip, until cancelled."""
        async for data in self._to_gossip:
            kind = "consensus.proposal" if len(data) > VOTE_BYTES_USUAL else "consensus.attestation"
            await self._network.publish(rpc.topic(self._ledger.world_id, kind), data)
            self.counters.add("consensus.gossiped")
