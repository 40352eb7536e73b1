"""Who may connect: connections and handshakes of every address, counted before anything is known of a peer.

Pure: time is given. An IPv6 address counts by its /64, which is what one customer has.
"""

from __future__ import annotations

import functools
import ipaddress
from collections import Counter
from typing import Any, Final

import attrs

from agent_world.config import NetConfig
from agent_world.net.address_bans import AddressBans
from agent_world.net.rates import Buckets, Rate

IPV6_PREFIX: Final = 64
FAILED_HANDSHAKES: Final = Rate(per_s=0.5, burst=40)
"""Handshakes of one address that may fail; above it, the address has to wait. A restarting peer fails a few."""


@attrs.define(slots=True)
class Visit:
    """One inbound connection from its accepting to its end."""

    address: str
    doors: Doors
    is_upgraded: bool = False

    def upgraded(self) -> None:
        """The handshake has succeeded: the peer is known."""
        if not self.is_upgraded:
            self.is_upgraded = True
            self.doors.settled(self.address)


@attrs.define(slots=True)
class _Address:
    connections: int = 0
    handshakes: int = 0


class Doors:
    """Counts of one host; refusals are told by their counter's name."""

    def __init__(self, config: NetConfig, address_bans: AddressBans) -> None:
        self._config = config
        self._address_bans = address_bans
        self._open: dict[str, _Address] = {}
        self._handshakes = 0
        rate = Rate(config.connects_per_ip_per_s, config.connects_per_ip_burst)
        self._connects: Buckets[str] = Buckets(rate)
        self._failures: Buckets[str] = Buckets(FAILED_HANDSHAKES)
        self.refused: Counter[str] = Counter()

    def enter(self, ip: str, now_s: float) -> Visit | str:
        """The visit, or why there is none."""
        address = network_of(ip)
        reason = self._reason(address, now_s)
        if reason is not None:
            self.refused[reason] += 1
            return reason
        known = self._open.setdefault(address, _Address())
        known.connections += 1
        known.handshakes += 1
        self._handshakes += 1
        return Visit(address, self)

    def _reason(self, address: str, now_s: float) -> str | None:
        known = self._open.get(address, _Address())
        if known.connections >= self._config.connections_per_ip_max:
            return "connection_limit_per_address"
        if known.handshakes >= self._config.handshakes_per_ip_max or self._handshakes >= self._config.handshakes_max:
            return "connection_limit_handshakes"
        if self._failures.of(address, now_s).wait_s(1, now_s) > 0:
            return "connection_limit_failed_handshakes"
        if not self._connects.of(address, now_s).take(1, now_s):
            return "connection_limit_rate"
        return self._address_bans.refusal(address, now_s)

    def settled(self, address: str) -> None:
        """A handshake is over."""
        self._open[address].handshakes -= 1
        self._handshakes -= 1

    def leave(self, visit: Visit, now_s: float) -> None:
        """The connection has ended; without a handshake it counts as a failed one."""
        if not visit.is_upgraded:
            visit.upgraded()
            self._failures.of(visit.address, now_s).take(1, now_s)
        known = self._open[visit.address]
        known.connections -= 1
        if not known.connections:
            del self._open[visit.address]

    def shown(self) -> dict[str, Any]:
        """Open connections and handshakes, and refusals by reason, for a status page."""
        return {
            "addresses": len(self._open),
            "connections": sum(known.connections for known in self._open.values()),
            "handshakes": self._handshakes,
            "refused": dict(sorted(self.refused.items())),
        }


@functools.lru_cache(maxsize=4_096)
def network_of(ip: str) -> str:
    """What counts as one address."""
    try:
        parsed = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if parsed.version == 4:
        return str(parsed)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped) if mapped else str(ipaddress.ip_network((int(parsed), IPV6_PREFIX), strict=False))
