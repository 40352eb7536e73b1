"""Puts this node's records into the DHT: head and membership, when it is drawn for them, and what it can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import structlog
import trio

from agent_world.crypto.keys import KeyPair
from agent_world.errors import Unavailable
from agent_world.handlers.dht import sign_membership
from agent_world.net.interface import DistributedDht
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.sync.head_draw import drawn
from agent_world.wire import record, rpc
from agent_world.wire.capability import CapabilityRecord
from agent_world.wire.ids import TimeMs

_log = structlog.get_logger("agent_world.publishing")

HEAD_PUT_S: Final = 10.0
"""A node puts the head at most this often; gossip and hellos are faster for whoever is connected."""
CAPABILITY_PUT_S: Final = 30.0
MEMBERSHIP_LOOK_S: Final = 60.0
"""How often a validator looks whether the directory is to be put."""
LOOKUP_MAX_S: Final = 10.0
RENEW_MS: Final = 3_600_000
"""A record that has not changed is put again after this long; holders keep it for a day."""


@attrs.define(slots=True)
class _Put:
    """What was put last under one key."""

    content: object = None
    at_ms: int = 0

    def is_due(self, content: object, now_ms: int) -> bool:
        return content != self.content or now_ms - self.at_ms >= RENEW_MS


class RecordPublisher:
    """One node's records. ``voter`` names its validator key if it has one."""

    def __init__(self, dht: DistributedDht, ledger: Ledger, clock: Clock, voter: Callable[[], KeyPair | None]) -> None:
        self._dht = dht
        self._ledger = ledger
        self._clock = clock
        self._voter = voter
        self._head = _Put()
        self._capability = _Put()
        self._membership = _Put()
        self.describe: Callable[[TimeMs], tuple[str, CapabilityRecord, bytes]] | None = None
        """(time) -> key, record and its signed bytes; without it no capability record is put."""
        self.counters = Counters()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._put_heads)
            nursery.start_soon(self._put_capabilities)
            nursery.start_soon(self._put_memberships)

    async def _put_heads(self) -> None:
        key = rpc.dht_head_key(self._ledger.world_id)
        while True:
            await trio.sleep(HEAD_PUT_S)
            height = self._ledger.height
            if height and self._is_drawn(height) and self._head.is_due(height, self._clock.now_ms()):
                value = record.to_bytes(self._ledger.certified_head())
                if await self._put(key, value, "head"):
                    self._head = _Put(height, self._clock.now_ms())

    def _is_drawn(self, number: int) -> bool:
        """For a height, or for an hour of the wall clock."""
        keys = [entry.public_key for entry in self._ledger.validators.record.validators]
        voter = self._voter()
        return voter is not None and voter.public_key in drawn(self._ledger.genesis_hash, number, keys)

    async def _put_memberships(self) -> None:
        """The directory: every hour by those drawn for the hour, and by anybody who finds that nobody has it."""
        ledger, key = self._ledger, rpc.dht_membership_key(self._ledger.world_id)
        while True:
            await trio.sleep(MEMBERSHIP_LOOK_S)
            now_ms, term, voter = self._clock.wall_ms(), ledger.term(), self._voter()
            if term is None or voter is None or term.validators.by_key(voter.public_key) is None:
                continue
            if not self._membership.is_due(term.version, self._clock.now_ms()):
                continue
            if self._is_drawn(now_ms // RENEW_MS) or await self._is_absent(key):
                value = sign_membership(term, ledger.world_id, ledger.genesis_hash, voter, TimeMs(now_ms))
                if await self._put(key, value, "membership"):
                    self._membership = _Put(term.version, self._clock.now_ms())

    async def _is_absent(self, key: str) -> bool:
        """Whether those who answer have no such record; no answer says nothing."""
        try:
            return await self._dht.get_record(key, timeout_s=LOOKUP_MAX_S) is None
        except Unavailable:
            self.counters.add("dht.nobody_answered")
            return False

    async def _put_capabilities(self) -> None:
        while True:
            if self.describe is not None and self._dht.peers():
                key, said, value = self.describe(TimeMs(self._clock.wall_ms()))
                content = (said.from_height, said.to_height, said.role, said.storage_used_bytes)
                if self._capability.is_due(content, self._clock.now_ms()) and await self._put(key, value, "capability"):
                    self._capability = _Put(content, self._clock.now_ms())
            await trio.sleep(CAPABILITY_PUT_S)

    async def _put(self, key: str, value: bytes, what: str) -> bool:
        try:
            await self._dht.put_record(key, value)
        except Unavailable as error:
            self.counters.add(f"dht.{what}_not_put")
            _log.debug("a record could not be put", key=key, error=str(error))
            return False
        self.counters.add(f"dht.{what}_put")
        return True
