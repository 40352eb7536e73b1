"""Gossipsub 1.1: signed messages, three-way validation before forwarding, an inbox for each subscription (D7)."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from agent_world.config import NetConfig
from agent_world.errors import DecodeError, LocalError
from agent_world.net.counters import Counters
from agent_world.net.inbox import Inbox
from agent_world.net.interface import GossipMessage, Validator, Verdict
from agent_world.net.libp2p import library_faults
from agent_world.net.libp2p.host import Host
from agent_world.wire.ids import PeerId, check_peer_id
from agent_world.wire.limits import GOSSIP_BYTES_MAX

log: Final = logging.getLogger(__name__)

MESHSUB: Final = TProtocol("/meshsub/1.1.0")
"""Not 1.2: its IDONTWANT goes out for every message and more than doubles the cost."""
DEGREE: Final = 6
DEGREE_LOW: Final = 4
DEGREE_HIGH: Final = 64
"""Never prune: a pruned peer gets neither messages nor gossip in its back-off. Dials bound the links instead."""
BACK_OFF_S: Final = 2
"""After a prune or an unsubscribe; the default of 60 s never lets a mesh heal."""
PRESSURE_LENGTH: Final = library_faults.GOSSIP_QUEUE_MAX // 2
"""With so many messages waiting for one peer, publishing slows down."""
PRESSURE_PAUSE_S: Final = 0.005
STATISTICS_TRIMMED_EVERY_S: Final = 60.0


class Gossip:
    """Publishing and subscribing on one host, made by ``open_gossip``."""

    def __init__(self, service: Pubsub, own_id: PeerId, config: NetConfig, counters: Counters) -> None:
        self._service = service
        self._own_id = own_id
        self._config = config
        self._counters = counters
        self._topics: dict[str, list[tuple[Inbox, Validator]]] = {}

    async def publish(self, topic: str, data: bytes) -> None:
        """Sign and send to the mesh, or to known subscribers if not subscribed; raises LocalError when too large."""
        if len(data) > GOSSIP_BYTES_MAX:
            raise LocalError(f"a gossip message of {len(data)} bytes is over the limit of {GOSSIP_BYTES_MAX}")
        self._counters.add("gossip_published")
        # The library queues without ever yielding; whoever publishes in a loop must let the queues empty. One slow
        # peer costs a publisher no more than the pause, so 200 messages a second always go.
        if any(len(queue) > PRESSURE_LENGTH for queue in self._service.peer_queues.values()):
            await trio.sleep(PRESSURE_PAUSE_S)
        else:
            await trio.lowlevel.checkpoint()
        await self._service.publish(topic, data)

    async def subscribe(self, topic: str, validator: Validator) -> Inbox:
        """A new inbox; a message that any validator of its topic does not accept is neither delivered nor forwarded."""
        inbox = Inbox(topic, self._config.inbox_messages_max, lambda: self._counters.add("gossip_inbox_dropped"))
        if topic in self._topics:
            self._topics[topic].append((inbox, validator))
            return inbox
        self._topics[topic] = [(inbox, validator)]
        self._service.set_topic_validator(topic, self._judge, is_async_validator=False)
        await self._service.subscribe(topic)
        return inbox

    def _judge(self, forwarder: Any, message: Any) -> bool:
        """What the library asks before it delivers and forwards; the signature is checked by then."""
        source = ID(message.from_id).to_base58()
        if source == self._own_id:
            return True
        verdict = self._verdict(source, message)
        self._counters.add(f"gossip_{verdict.value}")
        return verdict is Verdict.ACCEPT

    def _verdict(self, source: str, message: Any) -> Verdict:
        if len(message.topicIDs) != 1 or len(message.data) > GOSSIP_BYTES_MAX:
            return Verdict.REJECT
        try:
            peer = PeerId(check_peer_id(source))
        except DecodeError:
            return Verdict.REJECT  # published with a key that is not Ed25519: no node of this system
        for _, validator in self._topics.get(message.topicIDs[0], ()):
            try:
                verdict = validator(peer, message.data)
            # A validator is foreign code here; the message is not judged, the node lives. Logged and counted.
            except Exception:
                log.exception("the validator of %s failed", message.topicIDs[0])
                self._counters.add("gossip_validator_failed")
                return Verdict.IGNORE
            if verdict is not Verdict.ACCEPT:
                return verdict
        return Verdict.ACCEPT

    def deliver(self, message: Any) -> None:
        """Put an accepted message into the inboxes of its topic; own messages are not delivered back."""
        source = PeerId(ID(message.from_id).to_base58())
        if source == self._own_id:
            return
        topic = message.topicIDs[0]
        for inbox, _ in self._topics.get(topic, ()):
            inbox.put(GossipMessage(topic, source, message.data))

    def close(self) -> None:
        """End all inboxes."""
        for subscriptions in self._topics.values():
            for inbox, _ in subscriptions:
                inbox.close()


@asynccontextmanager
async def open_gossip(host: Host, config: NetConfig, counters: Counters) -> AsyncIterator[Gossip]:
    """Run gossipsub on a host; enter before the first connection, since a pubsub not yet started blocks connects."""
    router = GossipSub(
        protocols=[MESHSUB],
        degree=DEGREE,
        degree_low=DEGREE_LOW,
        degree_high=DEGREE_HIGH,
        heartbeat_initial_delay=min(0.1, config.heartbeat_s),
        heartbeat_interval=config.heartbeat_s,  # type: ignore[arg-type]
        prune_back_off=BACK_OFF_S,
        unsubscribe_back_off=BACK_OFF_S,
        spam_protection_enabled=False,  # drops above 10 messages a second and topic, silently
        adaptive_gossip_enabled=False,
        eclipse_protection_enabled=False,
    )
    service = Pubsub(host.inner, router, strict_signing=True)
    library_faults.number_messages_from(service, time.time_ns())
    library_faults.announce_to_new_peers(service)
    library_faults.count_dropped_messages(router, counters)
    gossip = Gossip(service, host.peer_id, config, counters)
    library_faults.deliver_at_once(service, gossip.deliver)
    try:
        async with background_trio_service(service), background_trio_service(router):
            await service.wait_until_ready()
            work = library_faults.guard_inbound_messages(service, counters)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                nursery.start_soon(_trim_statistics, router)
                yield gossip
                nursery.cancel_scope.cancel()
    finally:
        gossip.close()
        library_faults.stop_seen_messages(service)


async def _trim_statistics(router: GossipSub) -> None:
    while True:
        await trio.sleep(STATISTICS_TRIMMED_EVERY_S)
        library_faults.trim_statistics(router)
