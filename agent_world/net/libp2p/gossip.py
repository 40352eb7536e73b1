"""Gossipsub 1.1: signed messages, three-way validation before forwarding, an inbox for each subscription (D7)."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.score import ScoreParams
from libp2p.pubsub.validators import signature_validator
from libp2p.tools.anyio_service import background_trio_service

from agent_world.config import NetConfig
from agent_world.errors import DecodeError, LocalError
from agent_world.net.counters import Counters
from agent_world.net.gate import Gate
from agent_world.net.gossip_score import GOSSIP_THRESHOLD, GRAYLIST_THRESHOLD, PUBLISH_THRESHOLD, GossipScores
from agent_world.net.inbox import Inbox
from agent_world.net.interface import GossipMessage, Validator, Verdict
from agent_world.net.libp2p import gossip_faults, library_faults
from agent_world.net.libp2p.host import Host, our_id
from agent_world.net.rates import RateClass
from agent_world.net.reputation import Offence
from agent_world.net.seen import SeenIds
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
TOPICS_PER_PEER_MAX: Final = 256
"""Topics that one peer may subscribe to; a node has eight or so for each world."""
STATISTICS_TRIMMED_EVERY_S: Final = 60.0
_OFFENCES: Final = {"gossip_invalid": Offence.INVALID_GOSSIP, "gossip_unsigned": Offence.GARBAGE}


class Gossip:
    """Publishing and subscribing on one host, made by ``open_gossip``."""

    def __init__(self, service: Pubsub, own_id: PeerId, config: NetConfig, counters: Counters) -> None:
        self._service = service
        self._own_id = own_id
        self._config = config
        self._counters = counters
        self._topics: dict[str, list[tuple[Inbox, Validator]]] = {}
        self._gate = Gate(config, counters, trio.current_time)
        self.scores = GossipScores()
        self.offence: Callable[[PeerId, str], None] = lambda _peer, _kind: None
        """Told of the publisher and of the forwarder of a message that breaks a rule whatever the state is."""

    def use(self, gate: Gate) -> None:
        """Rates and offences are the gate's."""
        self._gate = gate
        self.offence = lambda peer, kind: gate.blame(peer, _OFFENCES[kind])

    def admits(self, forwarder: Any, message: Any) -> bool:
        """Whether a message is within the rates of its bringer; counted either way."""
        peer = our_id(forwarder)
        if peer == self._own_id:
            return True
        topics = message.topicIDs
        # A topic of somebody's invention is not counted by its name.
        topic = topics[0] if len(topics) == 1 and topics[0] in self._topics else "other"
        if not self._gate.admits(peer, RateClass.GOSSIP, len(message.data)):
            self._gate.traffic.dropped(peer, "topic", topic, "rate")
            return False
        self._gate.traffic.received(peer, "topic", topic, len(message.data))
        return True

    async def publish(self, topic: str, data: bytes) -> None:
        """Sign and send to the mesh, or to known subscribers if not subscribed; raises LocalError when too large."""
        if len(data) > GOSSIP_BYTES_MAX:
            raise LocalError(f"a gossip message of {len(data)} bytes is over the limit of {GOSSIP_BYTES_MAX}")
        self._counters.add("gossip_published")
        await self._gate.pace(self._own_id, RateClass.GOSSIP, len(data))
        self._gate.traffic.sent(None, "topic", topic, len(data))
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
        await self._service.subscribe(topic)
        return inbox

    async def take(self, forwarder: Any, message: Any) -> None:
        """In place of the library's ``push_msg``, for messages of peers and own ones: three verdicts instead of two.

        What was judged once is not judged again, and only what breaks a rule costs its bringer and its publisher.
        """
        peer, now_s = our_id(forwarder), trio.current_time()
        is_own = peer == self._own_id
        if self._service.seen_messages.has(message_id := self._service.get_message_id(message)):
            self._counters.add("gossip_duplicate")
            return
        if not is_own and self.scores.is_graylisted(peer, now_s):
            self._counters.add("gossip_graylisted")
            return
        topic = message.topicIDs[0] if len(message.topicIDs) == 1 else ""
        if not is_own and not self._is_signed(peer, topic, message):
            return
        source = ID(message.from_id).to_base58()
        if source == self._own_id and not is_own:
            self._counters.add("gossip_own_returned")
            return
        # Only now: anybody may put another's message number into a message without a valid signature.
        self._service.seen_messages.add(message_id)
        verdict = Verdict.ACCEPT if is_own else self._verdict(source, message)
        if not is_own:
            self._counters.add(f"gossip_{verdict.value}")
        if verdict is Verdict.REJECT:
            self.scores.invalid(peer, topic, now_s)
            self._blame("gossip_invalid", *dict.fromkeys((peer, source)))
        elif verdict is Verdict.ACCEPT:
            if not is_own:
                self.scores.delivered_first(peer, topic, now_s)
                self._deliver(topic, PeerId(source), message.data)
            await self._service.router.publish(forwarder, message)

    def _is_signed(self, peer: PeerId, topic: str, message: Any) -> bool:
        try:
            is_signed = bool(signature_validator(message))
        except Exception:
            # Its key cannot be decoded; whoever runs this counts it and drops the message.
            self.scores.invalid(peer, topic, trio.current_time())
            self._blame("gossip_unsigned", peer)
            raise
        if not is_signed:
            self._counters.add("gossip_unsigned")
            self.scores.invalid(peer, topic, trio.current_time())
            self._blame("gossip_unsigned", peer)
        return is_signed

    def _blame(self, kind: str, *peers: str) -> None:
        for peer in peers:
            if peer != self._own_id:
                self.offence(PeerId(peer), kind)

    def score_of(self, peer: Any) -> float:
        """Standing of a neighbour, for the library's decisions about its mesh."""
        return self.scores.score(our_id(peer), trio.current_time())

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

    def _deliver(self, topic: str, source: PeerId, data: bytes) -> None:
        for inbox, _ in self._topics.get(topic, ()):
            inbox.put(GossipMessage(topic, source, data))

    def needs(self, peer: PeerId) -> bool:
        """Whether a mesh would be thinner than it should be without this peer."""
        meshes = self._service.router.mesh.values()
        return any(len(mesh) <= DEGREE_LOW and any(our_id(member) == peer for member in mesh) for mesh in meshes)

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
        score_params=_score_params(lambda peer: gossip.score_of(peer)),
    )
    service = Pubsub(host.inner, router, strict_signing=True, max_subscriptions_per_peer=TOPICS_PER_PEER_MAX)
    gossip_faults.number_messages_from(service, time.time_ns())
    gossip_faults.bound_seen_messages(service, SeenIds())
    gossip_faults.announce_to_new_peers(service)
    gossip_faults.count_dropped_messages(router, counters)
    gossip = Gossip(service, host.peer_id, config, counters)
    gossip.use(host.gate)
    gossip_faults.take_messages_with(service, gossip.take)
    try:
        async with background_trio_service(service), background_trio_service(router):
            await service.wait_until_ready()
            work = gossip_faults.guard_inbound_messages(service, counters, gossip.admits)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                nursery.start_soon(_trim_statistics, router)
                yield gossip
                nursery.cancel_scope.cancel()
    finally:
        gossip.close()


def _score_params(score_of: Callable[[Any], float]) -> ScoreParams:
    """Our own counts of good and bad messages, as P6.

    The library's P1 counts joins and not time, its P3 is never fed, its P4 blames a peer for what is merely stale, and
    its P5 takes honest neighbours whose back-off ends a little earlier for a flood of GRAFT.
    """
    return ScoreParams(
        p6_appl_slack_weight=1.0,
        publish_threshold=PUBLISH_THRESHOLD,
        gossip_threshold=GOSSIP_THRESHOLD,
        graylist_threshold=GRAYLIST_THRESHOLD,
        accept_px_threshold=0.0,
        app_specific_score_fn=score_of,
    )


async def _trim_statistics(router: GossipSub) -> None:
    while True:
        await trio.sleep(STATISTICS_TRIMMED_EVERY_S)
        gossip_faults.trim_statistics(router)
