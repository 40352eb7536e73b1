"""The libp2p host: TCP, Noise and Yamux and nothing else, with the limits of our NetConfig."""

from __future__ import annotations

import errno
import functools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

from agent_world.config import NetConfig
from agent_world.crypto.keys import KeyPair
from agent_world.errors import ErrorCode, Refused, UsageError
from agent_world.net.address import TcpAddress, parse_address
from agent_world.net.counters import Counters
from agent_world.net.doors import Doors
from agent_world.net.gate import Gate
from agent_world.net.libp2p import library_faults
from agent_world.net.libp2p.entrance import keep_doors
from agent_world.net.libp2p.faster.noise import FasterNoise
from agent_world.net.libp2p.faster.quiet_lock import QuietLock
from agent_world.net.libp2p.faster.yamux import use_faster_yamux
from agent_world.net.libp2p.streams import LOST
from agent_world.wire.ids import PeerId, peer_id_of

SHUTDOWN_MAX_S: Final = 5.0
"""Closing all connections and the listener; what is left then is cancelled."""

StreamHandler = Callable[[Any], Awaitable[None]]


class Host:
    """One libp2p host, made and run by ``open_host``."""

    def __init__(self, inner: Any, peer_id: PeerId, gate: Gate, doors: Doors) -> None:
        self.gate = gate
        self.doors = doors
        self.inner = inner
        self.network: Any = inner.get_network()
        self.peer_id = peer_id
        self.has_quiet_streams = False
        """Whether our streams give their turn away only for who holds their lock, and not at every read and write."""
        self.used: Callable[[PeerId], None] = lambda _peer: None
        """Told of every peer with which a stream of ours begins, in either direction; not of the library's own."""

    def listen_addresses(self) -> tuple[str, ...]:
        """Own multiaddrs without /p2p, with the ports really bound."""
        return tuple(str(address).split("/p2p/")[0] for address in self.inner.get_transport_addrs())

    async def listen(self, addresses: tuple[str, ...]) -> None:
        """Begin to accept connections; raises UsageError if an address cannot be had."""
        for address in addresses:  # one by one, so that listen_addresses keeps their order
            await self.network.listen(Multiaddr(address))
        if len(self.listen_addresses()) != len(addresses):
            raise UsageError(f"cannot listen on {', '.join(addresses)}")

    async def close(self) -> None:
        """Close every connection and the listener; leaving them to the end of the run leaks sockets and tasks."""
        with trio.CancelScope(shield=True), trio.move_on_after(SHUTDOWN_MAX_S):
            # The library closes connections one after the other, 0.2 s each, and its listeners after them: with many
            # connections, or on a busy machine, there would be no time left for those.
            async with trio.open_nursery() as nursery:
                for listener in list(self.network.listeners.values()):
                    nursery.start_soon(listener.close)
                for connections in list(self.network.connections.values()):
                    for connection in list(connections):
                        nursery.start_soon(connection.close)
            await self.inner.close()

    def is_connected(self, peer: PeerId) -> bool:
        """Whether a connection to this peer stands."""
        return any(not connection.is_closed for connection in self.connections(peer))

    def connections(self, peer: PeerId) -> list[Any]:
        """The library's connections to a peer."""
        return list(self.network.connections.get(library_id(peer), ()))

    def is_identified(self, peer: PeerId) -> bool:
        """Whether the peer has told which protocols it speaks."""
        try:
            return bool(self.inner.get_peerstore().get_protocols(library_id(peer)))
        except PeerStoreError:
            return False

    def on_stream(self, protocol: str, handler: StreamHandler) -> None:
        """Take inbound streams of a protocol; the last registration wins."""

        async def taken(stream: Any) -> None:
            self.used(our_id(stream.muxed_conn.peer_id))
            await handler(self._quiet(stream))

        self.inner.set_stream_handler(TProtocol(protocol), taken)

    def _quiet(self, stream: Any) -> Any:
        if self.has_quiet_streams and not stream._state_lock.locked():
            stream._state_lock = QuietLock()
        return stream

    async def open_stream(self, peer: PeerId, protocol: str) -> Any:
        """A new stream; raises Refused: ERR_NOT_AVAILABLE without a connection, ERR_UNSUPPORTED by the peer.

        Never dials: who is not connected is not available.
        """
        if not self.is_connected(peer):
            raise Refused(ErrorCode.NOT_AVAILABLE, f"not connected to {peer}")
        self.used(peer)
        try:
            return self._quiet(await self.inner.new_stream(library_id(peer), [TProtocol(protocol)]))
        except LOST as error:
            if is_unsupported(error):
                raise Refused(ErrorCode.UNSUPPORTED, f"{peer} does not speak {protocol}") from None
            raise Refused(ErrorCode.NOT_AVAILABLE, f"no stream to {peer}: {error}") from None


PEER_IDS_CACHED_MAX: Final = 1_024
"""Ids kept in the library's form: base58 takes 20 us, and every message sent needs one."""


@functools.lru_cache(maxsize=PEER_IDS_CACHED_MAX)
def library_id(peer: PeerId) -> Any:
    """Our text id -> the library's."""
    return ID.from_string(peer)


def our_id(peer: Any) -> PeerId:
    """The library's id -> our text id."""
    return PeerId(peer.to_base58())


def remote_address(connection: Any) -> str:
    """Remote multiaddr of a connection as seen here; empty if its socket is gone."""
    remote = connection.muxed_conn.get_remote_address()
    if remote is None:
        return ""
    protocol = "ip6" if ":" in remote[0] else "ip4"
    return str(TcpAddress(protocol, remote[0], remote[1]))


def is_unsupported(error: BaseException | None) -> bool:
    """Whether a failed negotiation says that the peer does not know the protocol, not that it is gone."""
    while error is not None:
        if "protocol" in str(error).lower() and "not supported" in str(error).lower():
            return True
        error = error.__cause__
    return False


def check_can_listen(addresses: tuple[str, ...]) -> None:
    """Raise UsageError for an address that cannot be listened on.

    The library sets SO_REUSEPORT and would share a port in use with its owner, and reports no bind that fails.
    """
    for text in addresses:
        address = parse_address(text)
        if address.protocol not in ("ip4", "ip6"):
            raise UsageError(f"{text!r}: listen on an IP address, not on a name")
        family = socket.AF_INET if address.protocol == "ip4" else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # Without it the connections of a process that has just ended would count as in use.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address.host, address.port))
        except OSError as error:
            reason = {
                errno.EADDRINUSE: "the port is in use; stop the process that has it or choose another",
                errno.EADDRNOTAVAIL: "this machine has no such address",
                errno.EACCES: "not allowed; ports below 1024 need a privilege",
            }.get(error.errno or 0, str(error))
            raise UsageError(f"cannot listen on {text}: {reason}") from None


@asynccontextmanager
async def open_host(
    config: NetConfig, key: KeyPair, counters: Counters, transport: Any | None = None
) -> AsyncIterator[Host]:
    """Run a host that does not listen yet; over TCP, or over the ``transport`` of a simulation.

    Whoever enters calls ``close`` before leaving.
    """
    library_faults.repair_library()
    inner = _new_host(config, key, transport)
    library_faults.stop_auto_connector(inner)
    library_faults.open_streams_without_dialling(inner)
    library_faults.guard_stream_handlers(inner, config.streams_per_peer_max, counters)
    gate = Gate(config, counters, trio.current_time)
    doors = Doors(config, gate.address_bans)
    keep_doors(inner, config, doors, gate, counters)
    if "yamux" in config.faster:
        use_faster_yamux(inner)
    host = Host(inner, peer_id_of(key.public_key), gate, doors)
    host.has_quiet_streams = "yamux" in config.faster
    async with inner.run([]):
        yield host


def _new_host(config: NetConfig, key: KeyPair, transport: Any | None) -> Any:
    key_pair = create_new_key_pair(key.seed)
    noise = FasterNoise if "noise" in config.faster else Noise
    timeout_s = library_faults.whole_seconds(config.upgrade_timeout_s)
    inner: Any = new_host(
        key_pair=key_pair,
        # Never the library's default: it also accepts /plaintext/2.0.0, where anybody may claim any peer id.
        sec_opt={NOISE: noise(key_pair, noise_privkey=create_noise_key_pair().private_key)},
        muxer_opt={TProtocol(YAMUX): Yamux},
        transports=None if transport is None else [transport],
        connection_config=ConnectionConfig(
            max_connections=config.connections_max,
            high_watermark=config.connections_max,
            min_connections=0,
            low_watermark=0,
            max_connections_per_peer=config.connections_per_peer_max,
            inbound_upgrade_timeout=config.upgrade_timeout_s,
            outbound_upgrade_timeout=config.upgrade_timeout_s,
            dial_timeout=config.dial_timeout_s,
            outbound_stream_protocol_negotiation_timeout=timeout_s,
            inbound_stream_protocol_negotiation_timeout=timeout_s,
        ),
        disable_identify_address_discovery=True,
    )
    network = inner.get_network()
    network.retry_config = RetryConfig(max_retries=0)  # our own dial loop tries again
    network.set_resource_manager(None)  # it refuses by guesses about load; our limits are counts
    return inner
