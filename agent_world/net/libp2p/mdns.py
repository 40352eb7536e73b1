"""Peers of the same world on the local network, found by mDNS (RFC 6762, 6763) with zeroconf.

The library's own module is of no use here: its service is that of every libp2p program, it speaks on all interfaces,
connects to whoever answers, and only logs what fails. What is found here is an address to try, as one that a
neighbour names: whether a peer of this world is there is told by its handshake and its hello.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

import ifaddr
import trio
from zeroconf import Error, IPVersion, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from agent_world.errors import DecodeError, UsageError
from agent_world.net.address import TcpAddress, parse_address
from agent_world.net.counters import Counters
from agent_world.wire.ids import Hash32, PeerId, check_peer_id

log: Final = logging.getLogger(__name__)

NAMES_MAX: Final = 256
"""Announcements kept; further ones are dropped until others end."""
ADDRESSES_MAX: Final = 4
"""Addresses taken of one announcement."""
TOLD_AGAIN_S: Final = 30.0
"""What is still announced is told again this often: a peer that was let go may be there again."""
ANSWER_MAX_S: Final = 3.0
"""Time to ask for what an announcement has left out."""
CLOSE_MAX_S: Final = 3.0
"""Time for the farewell."""
_PEER: Final = b"peer"
"""Key of the TXT record that holds the peer id."""

_in_thread: Final[Any] = trio.to_thread.run_sync
"""Stubs of a dependency hide that it can be told to leave a thread behind."""

Found = Callable[[PeerId, str], None]
"""(peer, address): somebody says that this peer listens there."""


def service_of(genesis_hash: Hash32) -> str:
    """Service of one world. A name has at most 15 characters; worlds whose hash begins alike part at their hellos."""
    return f"_aw-{genesis_hash.hex()[:12]}._tcp.local."


def lan_addresses(listen: Iterable[str]) -> list[TcpAddress]:
    """Where somebody on the local network finds this node: IPv4 addresses of one port, loopback for tests.

    Raises UsageError if there are none. A node that listens on a public address is not announced there.
    """
    found: list[TcpAddress] = []
    for text in listen:
        address = parse_address(text)
        if address.protocol == "ip4":
            hosts = _own_hosts() if ipaddress.ip_address(address.host).is_unspecified else [address.host]
            found += [TcpAddress("ip4", host, address.port) for host in hosts if _is_local(host)]
    if not found:
        raise UsageError("net.mdns needs an IPv4 address of a private network in net.listen")
    return [address for address in found if address.port == found[0].port]


def _own_hosts() -> list[str]:
    ips = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    return [ip for ip in ips if isinstance(ip, str) and not ipaddress.ip_address(ip).is_loopback]


def _is_local(host: str) -> bool:
    return ipaddress.ip_address(host).is_private and not ipaddress.ip_address(host).is_unspecified


class Mdns:
    """Announces one node and finds others; ``run`` does it. zeroconf has a thread of its own."""

    def __init__(
        self, peer: PeerId, genesis_hash: Hash32, addresses: list[TcpAddress], counters: Counters, found: Found
    ) -> None:
        self._peer = peer
        self._service = service_of(genesis_hash)
        self._addresses = addresses
        self._counters = counters
        self._found = found
        self._names: set[str] = set()
        self._new = trio.Event()
        self._untold: list[str] = []

    async def run(self) -> None:
        """Until cancelled. Returns, logged and counted, where nobody may speak mDNS: a node goes on without it."""
        try:
            # On the interfaces of these addresses and nowhere else; opening waits for the thread.
            zeroconf = await _in_thread(self._open)
        except (OSError, Error) as error:
            self._counters.add("mdns_failed")
            log.warning("no mDNS here: %r", error)
            return
        browser = ServiceBrowser(zeroconf, self._service, handlers=[self._handler()])

        def close() -> None:
            browser.cancel()  # it has a thread of its own, which closing the rest does not end
            zeroconf.close()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._announce, zeroconf)
                nursery.start_soon(self._tell_again)
                await self._tell_new(zeroconf)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_MAX_S):
                await _in_thread(close, abandon_on_cancel=True)

    def _handler(self) -> Callable[..., None]:
        """What zeroconf's thread calls."""
        token = trio.lowlevel.current_trio_token()

        def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._changed, name, state_change)

        return changed

    def _open(self) -> Zeroconf:
        return Zeroconf(interfaces=[address.host for address in self._addresses], ip_version=IPVersion.V4Only)

    async def _announce(self, zeroconf: Zeroconf) -> None:
        info = ServiceInfo(
            self._service,
            f"{self._peer}.{self._service}",
            port=self._addresses[0].port,
            addresses=[socket.inet_aton(address.host) for address in self._addresses],
            properties={_PEER: self._peer.encode()},
            server=f"{self._peer}.local.",
        )

        def register() -> None:
            # The name is a key's, so nobody else has a right to it: there is nothing to be found out before.
            zeroconf.register_service(info, cooperating_responders=True)

        try:
            await _in_thread(register, abandon_on_cancel=True)
        except (OSError, Error) as error:
            self._counters.add("mdns_failed")
            log.warning("not announced by mDNS: %r", error)

    def _changed(self, name: str, change: ServiceStateChange) -> None:
        if change is ServiceStateChange.Removed:
            self._names.discard(name)
        elif name in self._names or len(self._names) < NAMES_MAX:
            self._names.add(name)
            self._untell(name)
        else:
            self._counters.add("mdns_dropped")

    def _untell(self, name: str) -> None:
        if name not in self._untold:
            self._untold.append(name)
            self._new.set()

    async def _tell_again(self) -> None:
        while True:
            await trio.sleep(TOLD_AGAIN_S)
            for name in sorted(self._names):
                self._untell(name)

    async def _tell_new(self, zeroconf: Zeroconf) -> None:
        while True:
            await self._new.wait()
            self._new = trio.Event()
            while self._untold:
                await self._tell(zeroconf, self._untold.pop(0))

    async def _tell(self, zeroconf: Zeroconf, name: str) -> None:
        info = ServiceInfo(self._service, name)
        if not info.load_from_cache(zeroconf):
            await _in_thread(lambda: info.request(zeroconf, ANSWER_MAX_S * 1000), abandon_on_cancel=True)
        try:
            peer = PeerId(check_peer_id((info.properties.get(_PEER) or b"").decode("ascii")))
        except (DecodeError, UnicodeDecodeError):
            self._counters.add("mdns_wrong")
            return
        if peer == self._peer:
            return
        hosts = [host for host in info.parsed_addresses(IPVersion.V4Only) if _is_local(host)][:ADDRESSES_MAX]
        if not hosts or not info.port:
            self._counters.add("mdns_wrong")
            return
        for host in hosts:
            self._counters.add("mdns_found")
            self._found(peer, str(TcpAddress("ip4", host, info.port)))
