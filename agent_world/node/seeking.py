"""Finds heads and peers through the DHT when the connected peers do not have them, and reads the membership."""

from __future__ import annotations

from typing import Any, Final

import structlog
import trio

from agent_world.errors import RemoteError, Unavailable
from agent_world.handlers.dht import DhtRecords
from agent_world.net.interface import DistributedDht, DistributedNetwork
from agent_world.node.catch_up import CatchUp
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.node.peering import Peering
from agent_world.node.providing import genesis_root
from agent_world.wire import rpc
from agent_world.wire.directory import MembershipDirectorySnapshot
from agent_world.wire.ids import PeerId

_log = structlog.get_logger("agent_world.seeking")

LONELY_PEERS: Final = 3
"""With fewer peers that have said hello, further ones are looked for."""
LONELY_S: Final = 2.0
"""Between two look-ups of a node with few peers or without a source for the next height."""
SETTLED_S: Final = 60.0
"""Between two look-ups of any other node: they only find out whether its peers keep something from it."""
LOOKUP_MAX_S: Final = 10.0


class Seeker:
    """One node's questions to the DHT."""

    def __init__(
        self,
        dht: DistributedDht,
        network: DistributedNetwork,
        ledger: Ledger,
        catch_up: CatchUp,
        peering: Peering,
        records: DhtRecords,
    ) -> None:
        self._dht = dht
        self._network = network
        self._ledger = ledger
        self._catch_up = catch_up
        self._peering = peering
        self._records = records
        self._membership: MembershipDirectorySnapshot | None = None
        self.counters = Counters()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            lonely = self._is_lonely()
            try:
                await self._seek_head()
                await self._seek_membership()
                if lonely:
                    await self._seek_peers()
            except Unavailable as error:
                self.counters.add("dht.nobody_answered")
                _log.debug("the DHT does not answer", error=str(error))
            with trio.move_on_after(LONELY_S if lonely else SETTLED_S):
                await self._until_lonely()

    def _is_lonely(self) -> bool:
        height = self._ledger.height
        behind = self._catch_up.heads.network_committed_height > height
        return len(self._peering.hellos) < LONELY_PEERS or (behind and not self._catch_up.heads.sources(height + 1))

    async def _until_lonely(self) -> None:
        if self._is_lonely():
            await trio.sleep_forever()
        while not self._is_lonely():  # noqa: ASYNC110 - what makes a node lonely is told by no one event
            await trio.sleep(LONELY_S)

    async def _seek_head(self) -> None:
        key = rpc.dht_head_key(self._ledger.world_id)
        value = await self._dht.get_record(key, timeout_s=LOOKUP_MAX_S)
        if value is None:
            self.counters.add("dht.no_head")
            return
        try:
            certified = self._records.open_head(value)
        except RemoteError as error:
            self.counters.add(f"dht.head_wrong.{error.rule}")
            return
        if certified.head.height > self._ledger.height:
            self.counters.add("dht.head_ahead")
            self._catch_up.proved(certified)

    async def _seek_membership(self) -> None:
        """Read the directory and hold it against the chain: what others are told must not differ."""
        value = await self._dht.get_record(rpc.dht_membership_key(self._ledger.world_id), timeout_s=LOOKUP_MAX_S)
        if value is None:
            self.counters.add("dht.no_membership")
            return
        try:
            self._membership = self._records.open_membership(value)
        except RemoteError as error:
            self.counters.add(f"dht.membership_wrong.{error.rule}")
        else:
            self.counters.add("dht.membership_read")

    def membership_status(self) -> dict[str, Any] | None:
        """The directory read last, for ``node status``; None before any was found."""
        said = self._membership
        if said is None:
            return None
        return {
            "version": said.version,
            "from_height": said.from_height,
            "validators": len(said.validators.validators),
            "signed_by": said.requester_id,
        }

    async def _seek_peers(self) -> None:
        """Nodes that keep the chain provide its genesis."""
        for peer in await self._dht.find_providers(genesis_root(self._ledger), timeout_s=LOOKUP_MAX_S):
            if peer != self._network.peer_id and peer not in self._peering.hellos:
                self.counters.add("dht.peer_found")
                self._hear_of(peer)

    def _hear_of(self, peer: PeerId) -> None:
        for address in self._dht.addresses(peer):
            self._peering.heard_of(peer, address)
