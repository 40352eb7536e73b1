"""The workarounds for faults of py-libp2p 0.8.1 that concern one pubsub service; ``library_faults`` tells the rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import libp2p.pubsub.gossipsub as gossipsub
import libp2p.pubsub.pubsub as pubsub
import trio

from agent_world.net.counters import Counters
from agent_world.net.libp2p.library_faults import GOSSIP_QUEUE_MAX, log, replace_once
from agent_world.net.seen import SeenIds


def number_messages_from(service: pubsub.Pubsub, now_ns: int) -> None:
    """Fault: message numbers start at the time in seconds, so a busy publisher that restarts repeats them.

    Receivers take the repeated numbers for messages seen before and drop them.
    """
    service.counter = now_ns


def guard_inbound_messages(
    service: pubsub.Pubsub, counters: Counters, admits: Callable[[Any, Any], bool]
) -> Callable[[], Awaitable[None]]:
    """Faults: a message with an undecodable key ends the pubsub service; every message starts a task that searches
    all running tasks for its parent.

    Call after the service has started, and run what is returned: one worker that takes the messages in order. What
    ``admits`` refuses, told who brings what, is dropped before it waits.
    """
    push = service.push_msg
    run_task = service.manager.run_task
    arrived, waiting = trio.open_memory_channel[tuple[Any, Any]](GOSSIP_QUEUE_MAX)

    async def guarded(forwarder: Any, message: Any) -> None:
        try:
            await push(forwarder, message)
        # Only the message may die of what a peer put into it. Counted and logged here.
        except Exception as error:  # noqa: BLE001
            counters.add("gossip_undecodable")
            log.debug("a gossip message was dropped: %r", error)

    def queue_instead(function: Any, *args: Any, **options: Any) -> None:
        if function is not guarded:
            run_task(function, *args, **options)
            return
        if not admits(*args):
            return
        try:
            arrived.send_nowait(args)
        except trio.WouldBlock:
            counters.add("gossip_overflow")

    async def work() -> None:
        async for forwarder, message in waiting:
            await guarded(forwarder, message)

    replace_once(service, "push_msg", guarded)
    replace_once(service.manager, "run_task", queue_instead)
    return work


def announce_to_new_peers(service: pubsub.Pubsub) -> None:
    """Fault: a topic joined while the stream to a new peer opens is never told to that peer."""
    handle = service._handle_new_peer

    async def handle_and_announce(peer: Any) -> None:
        known = peer in service.peers
        told = set(service.topic_ids)
        await handle(peer)
        queue = service.peer_queues.get(peer)
        if not known and queue is not None and set(service.topic_ids) != told:
            queue.push(service.get_hello_packet())

    replace_once(service, "_handle_new_peer", handle_and_announce)


def take_messages_with(service: pubsub.Pubsub, take: Callable[[Any, Any], Awaitable[None]]) -> None:
    """Faults: a verdict has two values, so that who forwards what is merely stale loses its standing; a message that
    is not valid here is judged again from every neighbour; subscribers share one channel of 32, silent when full.
    """
    replace_once(service, "push_msg", take)


def count_dropped_messages(router: gossipsub.GossipSub, counters: Counters) -> None:
    """Fault: what does not fit into a peer's queue is dropped without a count."""
    handle = router._handle_dropped_rpc

    def counted(peer: Any, rpc: Any, reason: str) -> None:
        counters.add("gossip_queue_dropped")
        handle(peer, rpc, reason)

    replace_once(router, "_handle_dropped_rpc", counted)


def bound_seen_messages(service: pubsub.Pubsub, seen: SeenIds) -> None:
    """Fault: ids of seen messages are kept for two to three minutes however many they are, by a thread that stays."""
    service.seen_messages.stop()
    replace_once(service, "seen_messages", seen)


def trim_statistics(router: gossipsub.GossipSub) -> None:
    """Fault: lists for a feature that is off grow by an entry for each message and connection, for ever."""
    router.recent_message_deliveries.clear()
    router.recent_peer_connections.clear()
    router.recent_peer_disconnections.clear()
