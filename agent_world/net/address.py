"""Multiaddr text without libp2p (D11): ``/ip4/<ip>/tcp/<port>``, with or without ``/p2p/<peer id>`` at its end.

Only TCP addresses exist here, since the host speaks TCP only. The text is put into one canonical form, so equal
addresses compare equal.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import attrs

from agent_world.errors import DecodeError, UsageError
from agent_world.wire.ids import PeerId, check_peer_id
from agent_world.wire.limits import ADDRESS_CHARS_MAX

_FORM: Final = "/ip4/<address>/tcp/<port>"
_IP_VERSION: Final = {"ip4": 4, "ip6": 6}
_DNS: Final = ("dns", "dns4", "dns6")
_DNS_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*")
_PORT: Final = re.compile(r"[0-9]{1,5}")
PORT_MAX: Final = 65_535
"""Largest TCP port."""


@attrs.frozen(slots=True)
class TcpAddress:
    """Where a node listens: ``protocol`` is ip4, ip6, dns, dns4 or dns6; ``str`` gives the multiaddr."""

    protocol: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"/{self.protocol}/{self.host}/tcp/{self.port}"

    @property
    def is_dialable(self) -> bool:
        """Whether somebody else could connect there: a port, and not the wildcard address."""
        if self.port == 0:
            return False
        return self.protocol in _DNS or not ipaddress.ip_address(self.host).is_unspecified


def parse_address(text: str) -> TcpAddress:
    """A multiaddr without ``/p2p``; raises UsageError that says what is wrong with it."""
    address, peer = _split(text)
    if peer is not None:
        raise UsageError(f"{text!r} names a peer; give the address alone, as in {_FORM}")
    return address


def parse_peer(text: str) -> tuple[PeerId, str]:
    """``/ip4/…/tcp/…/p2p/<peer id>`` -> peer and canonical address; raises UsageError that says what is wrong."""
    address, peer = _split(text)
    if peer is None:
        raise UsageError(f"{text!r} names no peer; it must end in /p2p/<peer id>")
    if not address.is_dialable:
        raise UsageError(f"{text!r} cannot be dialled: give the peer's real address and port")
    return peer, str(address)


def format_peer(peer: PeerId, address: str) -> str:
    """Inverse of ``parse_peer``."""
    return f"{address}/p2p/{peer}"


def _split(text: str) -> tuple[TcpAddress, PeerId | None]:
    if len(text) > ADDRESS_CHARS_MAX:
        raise UsageError(f"an address of {len(text)} characters is over the limit of {ADDRESS_CHARS_MAX}")
    if not text.startswith("/"):
        raise UsageError(f"{text!r} is not a multiaddr such as {_FORM}")
    parts = text[1:].split("/")
    if len(parts) < 4:
        raise UsageError(f"{text!r} is too short for a multiaddr such as {_FORM}")
    protocol, host, transport, port = parts[:4]
    if transport != "tcp":
        raise UsageError(f"{text!r} uses {transport!r}; only tcp is spoken here, as in {_FORM}")
    address = TcpAddress(protocol, _host(text, protocol, host), _port(text, port))
    rest = parts[4:]
    if not rest:
        return address, None
    if rest[0] != "p2p" or len(rest) != 2:
        raise UsageError(f"{text!r} goes on with /{'/'.join(rest)}; only /p2p/<peer id> may follow the port")
    try:
        return address, PeerId(check_peer_id(rest[1]))
    except DecodeError:
        raise UsageError(f"{rest[1]!r} in {text!r} is not the peer id of an Ed25519 key") from None


def _host(text: str, protocol: str, host: str) -> str:
    if protocol in _IP_VERSION:
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            raise UsageError(f"{host!r} in {text!r} is not an IP address") from None
        if ip.version != _IP_VERSION[protocol] or "%" in host:
            raise UsageError(f"{host!r} in {text!r} is not an {protocol} address")
        return str(ip)
    if protocol not in _DNS:
        raise UsageError(f"{text!r} begins with {protocol!r}; known are ip4, ip6, dns, dns4 and dns6")
    name = host.lower().rstrip(".")
    if not _DNS_NAME.fullmatch(name):
        raise UsageError(f"{host!r} in {text!r} is not a host name")
    return name


def _port(text: str, port: str) -> int:
    if not _PORT.fullmatch(port) or int(port) > PORT_MAX:
        raise UsageError(f"{port!r} in {text!r} is not a TCP port of 0 to {PORT_MAX}")
    return int(port)
