"""Reads what neighbours have signed of themselves: their capability records, asked of each by the DHT's protocol."""

from __future__ import annotations

from typing import Final

import trio

from agent_world.errors import RemoteError, Unavailable
from agent_world.handlers.dht import DhtRecords, capability_key
from agent_world.net.interface import DistributedDht
from agent_world.node.counters import Counters
from agent_world.node.peering import Peering
from agent_world.sync.keepers import Keepers
from agent_world.wire.hello import Role
from agent_world.wire.ids import PeerId, WorldId

READ_EVERY_S: Final = 2.0
"""Between two records; each is one question to the peer that it is about, which has the newest one."""
RENEW_S: Final = 600.0
"""A record is read again after so long; what it says of kept heights changes slowly."""
ABSENT_S: Final = 60.0
"""So long after a look-up that found none."""
LOOKUP_MAX_S: Final = 10.0


class CapabilityReader:
    """Fills ``keepers`` with the records of whoever has said hello."""

    def __init__(
        self, dht: DistributedDht, records: DhtRecords, peering: Peering, keepers: Keepers, world_id: WorldId
    ) -> None:
        self._dht = dht
        self._records = records
        self._peering = peering
        self._keepers = keepers
        self._world_id = world_id
        self._due_s: dict[PeerId, float] = {}
        self.seeks_keepers = False
        """Whether records of peers that are only heard of are read too, and storage nodes among them are linked to."""
        self.counters = Counters()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(READ_EVERY_S)
            now_s = trio.current_time()
            heard = self._peering.links.heard() if self.seeks_keepers else ()
            self._due_s = {peer: self._due_s.get(peer, now_s) for peer in (*heard, *self._peering.hellos)}
            peer = min(self._due_s, key=lambda known: self._due_s[known], default=None)
            if peer is not None and self._due_s[peer] <= now_s:
                found = await self._read(peer)
                self._due_s[peer] = trio.current_time() + (RENEW_S if found else ABSENT_S)

    async def _read(self, peer: PeerId) -> bool:
        key = capability_key(self._world_id, peer)
        try:
            at = peer if peer in self._peering.hellos else None
            value = await self._dht.get_record(key, timeout_s=LOOKUP_MAX_S, at=at)
            if value is None:
                self.counters.add("dht.no_capability")
                return False
            said = self._records.open_capability(key, value)
        except Unavailable:
            self.counters.add("dht.nobody_answered")
            return False
        except RemoteError as error:
            self.counters.add(f"dht.capability_wrong.{error.rule}")
            return False
        self._keepers.note(said)
        self.counters.add("dht.capability_read")
        if at is None and said.role is Role.STORAGE:
            self._peering.links.keep(peer)
        return True
