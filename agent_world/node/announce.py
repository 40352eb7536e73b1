"""What this node tells the swarm by gossip: bundles of actions, and its head, coalesced (D7)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import trio

from agent_world.net.interface import DistributedNetwork
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.node.pool import ActionPool
from agent_world.wire import record, rpc
from agent_world.wire.action import ActionBundle
from agent_world.wire.block import BlockAnnounce
from agent_world.wire.ids import Hash32
from agent_world.wire.limits import GOSSIP_ACTIONS_MAX, GOSSIP_BYTES_MAX

BUNDLE_S: Final = 0.02
"""How long the first action of a bundle waits for company."""
HEAD_INTERVAL_S: Final = 0.5
"""Heads are announced at most twice a second (D7)."""
QUEUE_MAX: Final = 8_192
"""Actions waiting to be gossiped; the oldest is dropped from the queue (never from the pool) and counted."""
_BUNDLE_BYTES: Final = GOSSIP_BYTES_MAX - 4_096


class Announcer:
    """Gossips for one node."""

    def __init__(self, network: DistributedNetwork, ledger: Ledger, pool: ActionPool) -> None:
        self._network = network
        self._ledger = ledger
        self._pool = pool
        self._queue: OrderedDict[Hash32, None] = OrderedDict()
        self._more = trio.Event()
        self.announce_heads = True
        """Whether committed heads are announced from here; validators do."""
        self.counters = Counters()

    def add(self, action_id: Hash32) -> None:
        """Gossip this action soon, once: who does not hear it asks for it (``node.repair``)."""
        self._queue[action_id] = None
        if len(self._queue) > QUEUE_MAX:
            self._queue.popitem(last=False)
            self.counters.add("gossip.actions_dropped")
        self._more.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_bundles)
            nursery.start_soon(self._send_heads)

    async def _send_bundles(self) -> None:
        topic = rpc.topic(self._ledger.world_id, "action")
        while True:
            await self._more.wait()
            await trio.sleep(BUNDLE_S)
            while bundle := self._cut():
                await self._network.publish(topic, record.to_bytes(ActionBundle(actions=tuple(bundle))))
                self.counters.add("gossip.action_bundles")
            self._more = trio.Event()

    def _cut(self) -> list[bytes]:
        bundle: list[bytes] = []
        size = 0
        while self._queue and len(bundle) < GOSSIP_ACTIONS_MAX:
            action = self._pool.get(next(iter(self._queue)))
            if action is not None:
                size += len(action.data) + 8
                if bundle and size > _BUNDLE_BYTES:
                    break
                bundle.append(action.data)
            self._queue.popitem(last=False)
        return bundle

    async def _send_heads(self) -> None:
        head_topic = rpc.topic(self._ledger.world_id, "head")
        block_topic = rpc.topic(self._ledger.world_id, "block")
        height = self._ledger.height
        while True:
            await self._ledger.wait_above(height)
            height = self._ledger.height
            if self.announce_heads:
                certified = self._ledger.certified_head()
                header = self._ledger.header
                assert header is not None, "a height above 0 has a block"
                await self._network.publish(head_topic, record.to_bytes(certified))
                announce = BlockAnnounce(
                    world_id=header.world_id,
                    height=header.height,
                    block_hash=certified.head.block_hash,
                    prev_block_hash=header.prev_block_hash,
                    event_root=header.event_root,
                    state_root=header.state_root,
                    timestamp_ms=header.timestamp_ms,
                )
                await self._network.publish(block_topic, record.to_bytes(announce))
                self.counters.add("gossip.heads")
            await trio.sleep(HEAD_INTERVAL_S)
