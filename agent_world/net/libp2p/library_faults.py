"""Every workaround for a fault of py-libp2p 0.8.1, each a small function that names the fault.

``repair_library`` changes the library for the whole process, once; the others change one host or one pubsub. All
touch private names, so each has a test in tests/net/test_library_faults.py that fails when the name, the fault or
the repair is gone. The library's version is pinned.
"""

from __future__ import annotations

import functools
import logging
import math
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Final

import libp2p.kad_dht.common as kad_common
import libp2p.kad_dht.kad_dht as kad_dht
import libp2p.kad_dht.peer_routing as kad_peer_routing
import libp2p.kad_dht.provider_store as kad_provider_store
import libp2p.kad_dht.utils as kad_utils
import libp2p.kad_dht.value_store as kad_value_store
import libp2p.network.connection.swarm_connection as swarm_connection
import libp2p.network.health.ping_probe as ping_probe
import libp2p.network.swarm as swarm
import libp2p.pubsub.gossipsub as gossipsub
import libp2p.pubsub.pubsub as pubsub
import libp2p.pubsub.rpc_queue as rpc_queue
import libp2p.pubsub.utils as pubsub_utils
import trio
from libp2p.custom_types import TProtocol
from libp2p.network.exceptions import SwarmException
from libp2p.protocol_muxer.exceptions import MultiselectClientError, ProtocolNotSupportedError
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from agent_world.net.counters import Counters
from agent_world.wire.limits import KIB, MIB

log: Final = logging.getLogger(__name__)

KAD_PROTOCOL: Final = TProtocol("/aw/kad/1.0.0")
"""Kademlia of this system; apart from the public /ipfs/kad/1.0.0."""
GOSSIP_QUEUE_MAX: Final = 1_024
"""Gossip RPCs waiting for one peer, and messages of all peers waiting to be judged."""
CREDIT_BYTES: Final = 32 * KIB
"""A yamux sender gets new credit after so many bytes; later, and one out of window would wait for its 10 ms poll."""
FIRST_WINDOW_BYTES: Final = MIB
"""Receive window from the first read on."""
WINDOW_BYTES_MAX: Final = 4 * MIB
"""The window doubles up to this; source: measured, 200-330 MiB/s on loopback."""
CLOSE_TIME_MAX_S: Final = 1.0
"""Time for the farewell frame of a closing connection."""
RECORDS_CACHED_MAX: Final = 4_096
"""Peer records known to be good; all are forgotten when there are more."""
RECORD_GOOD_S: Final = 1_800.0
"""Then a record is stored again: the library forgets its addresses after two hours."""


def replace_once(owner: Any, name: str, replacement: Any) -> Any:
    """Put ``replacement`` into the library's place and return what was there; AttributeError if nothing was."""
    replaced = getattr(owner, name)
    setattr(owner, name, replacement)
    return replaced


@functools.cache
def repair_library() -> None:
    """Apply the repairs that hold for the whole process."""
    dial_without_pause()
    deepen_queues()
    credit_in_batches()
    shield_frame_writes()
    bound_connection_close()
    finish_connection_close()
    verify_peer_record_once()
    free_inbound_slot()
    log_by_name()
    use_own_kad_protocol()
    count_no_as_alive()


def dial_without_pause() -> None:
    """Fault: a dial waits the whole 250 ms meant for a second address, even with one address and success."""
    replace_once(swarm, "_HAPPY_EYEBALLS_DELAY", 0.0)


def deepen_queues() -> None:
    """Fault: a queue of 32 towards each peer drops every longer burst; there is no constructor argument."""
    rpc_queue.RpcQueue.__init__.__defaults__ = (GOSSIP_QUEUE_MAX, rpc_queue.DefaultMaxMessageSize)


def credit_in_batches() -> None:
    """Fault: every single read sends a WINDOW_UPDATE frame, two to three frames for each small message."""

    async def credit(self: YamuxStream, *, bytes_read: int = 0) -> None:
        self._pending_recv_release += bytes_read
        increment = 0
        if self.target_recv_window < FIRST_WINDOW_BYTES:
            increment = FIRST_WINDOW_BYTES - self.target_recv_window
            self.target_recv_window = FIRST_WINDOW_BYTES
        elif self._pending_recv_release >= CREDIT_BYTES:
            increment, self._pending_recv_release = self._pending_recv_release, 0
            if self.target_recv_window < WINDOW_BYTES_MAX:
                increment += self.target_recv_window
                self.target_recv_window *= 2
        if increment:
            self.recv_window += increment
            await self.send_window_update(increment)

    replace_once(YamuxStream, "_auto_tune_and_send_window_update", credit)


def shield_frame_writes() -> None:
    """Fault: a write cancelled half-way (a deadline, a full socket) leaves half an encrypted frame on the wire.

    That breaks the whole connection with all its streams, so a frame that was begun is always finished.
    """

    async def write_frame(self: Yamux, data: bytes) -> None:
        async with self._write_lock:
            with trio.CancelScope(shield=True):
                await self.secured_conn.write(data)
        await trio.lowlevel.checkpoint()

    replace_once(Yamux, "_write_frame", write_frame)


def bound_connection_close() -> None:
    """Fault: closing first writes a farewell frame, and waits for ever when the peer does not read any more."""
    close_politely = Yamux.close

    async def close_socket_later(connection: Yamux) -> None:
        await trio.sleep(CLOSE_TIME_MAX_S)
        await connection.secured_conn.close()

    async def close(self: Yamux, error_code: int = 0) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(close_socket_later, self)
            await close_politely(self, error_code)
            nursery.cancel_scope.cancel()

    replace_once(Yamux, "close", close)


def finish_connection_close() -> None:
    """Fault: a connection counts as closed from the first step of its close on, which a cancellation may cut short.

    No later close does anything then: the socket stays open, and nobody is told that the peer has gone.
    """
    close_cancellable = swarm_connection.SwarmConn.close

    async def close(self: swarm_connection.SwarmConn) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(2 * CLOSE_TIME_MAX_S):
            await close_cancellable(self)

    replace_once(swarm_connection.SwarmConn, "close", close)


def verify_peer_record_once() -> None:
    """Fault: signed address records of the sender, and of every peer that a DHT answer names, ride on every gossip
    RPC and every message of the DHT, and are verified and stored every time.
    """
    good_at: weakref.WeakKeyDictionary[object, dict[tuple[bytes, bytes], float]] = weakref.WeakKeyDictionary()

    def once(consume: Callable[..., bool]) -> Callable[..., bool]:
        def consume_new(message: Any, host: Any, peer: Any = None) -> bool:
            # A peer that is named in an answer is in the answer; the sender of a message is who the caller says.
            field = "senderRecord" if hasattr(message, "senderRecord") else "signedRecord"
            if not message.HasField(field):
                return True
            named = message.id if field == "signedRecord" else peer
            if named is None:
                return consume(message, host, peer)
            good = good_at.setdefault(host, {})
            key = (named if isinstance(named, bytes) else named.to_bytes(), getattr(message, field))
            now_s = trio.current_time()
            if now_s < good.get(key, -math.inf) + RECORD_GOOD_S:
                return True
            if not consume(message, host, peer):
                return False
            if len(good) >= RECORDS_CACHED_MAX:
                good.clear()
            good[key] = now_s
            return True

        return consume_new

    gossiped = once(pubsub_utils.maybe_consume_signed_record)
    asked = once(kad_utils.maybe_consume_signed_record)
    for module in (pubsub, gossipsub):
        replace_once(module, "maybe_consume_signed_record", gossiped)
    for module in (kad_utils, kad_dht, kad_peer_routing, kad_provider_store, kad_value_store):
        replace_once(module, "maybe_consume_signed_record", asked)


def free_inbound_slot() -> None:
    """Fault: an inbound connection keeps its slot and its task until the process ends, not until it closes.

    After as many inbound connections as there are slots the listener refuses everybody for good.
    """
    upgrade = swarm.Swarm.upgrade_inbound_raw_conn

    async def upgrade_and_wait(self: swarm.Swarm, raw_conn: Any, maddr: Any) -> Any:
        muxed: Any = await upgrade(self, raw_conn, maddr)
        await muxed.event_closed.wait()
        raise SwarmException("the inbound connection has ended")

    replace_once(swarm.Swarm, "upgrade_inbound_raw_conn", upgrade_and_wait)


def log_by_name() -> None:
    """Faults: connections log through the root logger, which installs a handler on stderr when there is none; the
    normal end of every DHT stream is a warning, and so is every topic above the limit that a peer invents.
    """
    logging.getLogger(pubsub.__name__).setLevel(logging.ERROR)
    logging.getLogger(kad_dht.__name__).setLevel(logging.ERROR)
    replace_once(swarm_connection, "logging", logging.getLogger(swarm_connection.__name__))


def use_own_kad_protocol() -> None:
    """Fault: KadDHT takes a protocol prefix and ignores it; the name stands in five modules."""
    for module in (
        kad_common,
        kad_dht,
        kad_peer_routing,
        kad_provider_store,
        kad_value_store,
    ):
        replace_once(module, "PROTOCOL_ID", KAD_PROTOCOL)


def count_no_as_alive() -> None:
    """Fault: a peer that answers "I know no ping" counts as dead, since that answer is raised as another error.

    Who speaks for other IPFS implementations may have left ping out.
    """

    class FrankClient(MultiselectClient):
        async def select_one_of(self, *args: Any, **options: Any) -> TProtocol:
            try:
                return await super().select_one_of(*args, **options)
            except MultiselectClientError as error:
                if "protocols not supported" in str(error):
                    raise ProtocolNotSupportedError(str(error)) from None
                raise

    replace_once(ping_probe, "MultiselectClient", FrankClient)


def guard_stream_handlers(host: Any, streams_per_peer_max: int, counters: Counters) -> None:
    """Fault: an exception in any stream handler ends the whole host; one of an ended stream leaves a zombie connection.

    Also bounds the inbound streams of one peer, which the library does not.
    """
    handle = host._swarm_stream_handler
    running: dict[object, int] = {}

    async def guarded(stream: Any) -> None:
        peer = stream.muxed_conn.peer_id
        if running.get(peer, 0) >= streams_per_peer_max:
            counters.add("stream_limit")
            await stream.reset()
            return
        running[peer] = running.get(peer, 0) + 1
        try:
            await handle(stream)
        # Whatever a handler of ours or of the library raises, only its stream may die. Counted and logged here.
        except Exception as error:  # noqa: BLE001
            counters.add("stream_handler_failed")
            log.debug("a stream handler failed: %r", error)
            await stream.reset()
        finally:
            running[peer] -= 1
            if not running[peer]:
                del running[peer]

    host.get_network().set_stream_handler(guarded)


def stop_auto_connector(host: Any) -> None:
    """Fault: a background task dials any peer it has ever heard of up to half the limit, whatever the watermarks.

    It undoes disconnects and makes the sparse graph of our own dials a full one.
    """

    async def stay_stopped() -> None:
        await trio.lowlevel.checkpoint()

    replace_once(host.get_network().auto_connector, "start", stay_stopped)


def open_streams_without_dialling(host: Any) -> None:
    """Fault: a stream to a peer that has just gone dials it again, behind the back of whoever disconnected.

    The DHT keeps its dials: it asks peers that nobody else connects to.
    """
    new_stream = host.new_stream

    async def new_stream_if_connected(peer: Any, protocols: Any) -> Any:
        if KAD_PROTOCOL not in protocols and not host.is_peer_connected(peer):
            raise SwarmException(f"not connected to {peer}")
        return await new_stream(peer, protocols)

    replace_once(host, "new_stream", new_stream_if_connected)


def forget_failed_dials(host: Any, peer: object) -> None:
    """Fault: after one failed dial every connect to the peer is refused for 60 s, also when it is back."""
    host.get_network()._negative_peer_cache.evict(str(peer))


def after_identify(host: Any, action: Callable[[Any], Awaitable[object]]) -> None:
    """Fault: nothing tells that a peer's protocols are known, and KadDHT takes no peer before."""
    identify = host._identify_peer

    async def identify_and_tell(peer: Any, *, reason: str) -> None:
        await identify(peer, reason=reason)
        await action(peer)

    replace_once(host, "_identify_peer", identify_and_tell)


def stop_own_walk(dht: kad_dht.KadDHT) -> None:
    """Fault: the library's look-ups for its routing table leave a connection to everybody they ask."""

    async def stay_stopped() -> None:
        await trio.lowlevel.checkpoint()

    replace_once(dht, "refresh_routing_table", stay_stopped)


def whole_seconds(duration_s: float) -> int:
    """Fault: negotiation timeouts are cut to whole seconds, and a 0 means the default of 30."""
    return max(1, math.ceil(duration_s))
