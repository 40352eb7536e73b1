"""Addresses whose peers were banned again and again: fewer new connections from there, then none, for a while.

A ban is of one key, and a new key costs nothing. Pure: time is given, in seconds; addresses are those of
``doors.network_of``. Only new connections are refused: whoever is connected stays.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any, Final

import attrs

from agent_world.net.rates import Buckets, Rate
from agent_world.wire.ids import PeerId

ADDRESSES_MAX: Final = 4_096
"""Addresses remembered, of either kind; the one noted longest ago is forgotten."""
SLOW: Final = Rate(per_s=0.1, burst=2)
"""New connections from half of the bans on. An honest neighbour still gets in, if not at once."""
TRICKLE: Final = Rate(per_s=1 / 60, burst=1)
"""New connections of a shut address while an honest peer is connected from there: its neighbours may be honest too."""

SLOWED: Final = "connection_limit_slowed_address"
SHUT: Final = "connection_limit_banned_address"


@attrs.frozen(slots=True)
class _Ban:
    peer: PeerId
    at_s: float


class AddressBans:
    """``bans_max`` bans within ``memory_s`` shut an address; each is forgotten when it is as old."""

    def __init__(self, bans_max: int, memory_s: float) -> None:
        self._bans_max = bans_max
        self._slow_from = math.ceil(bans_max / 2)
        self._memory_s = memory_s
        self._bans: OrderedDict[str, deque[_Ban]] = OrderedDict()
        self._trusted: OrderedDict[str, float] = OrderedDict()
        self._honest: frozenset[str] = frozenset()
        self._slow: Buckets[str] = Buckets(SLOW)
        self._trickle: Buckets[str] = Buckets(TRICKLE)

    def note(self, address: str, peer: PeerId, now_s: float) -> None:
        """A peer connected from this address was banned for what it did."""
        if self._is_trusted(address, now_s):
            return
        bans = self._bans.setdefault(address, deque(maxlen=self._bans_max))
        bans.append(_Ban(peer, now_s))
        self._bans.move_to_end(address)
        while len(self._bans) > ADDRESSES_MAX:
            self._bans.popitem(last=False)

    def forgive(self, peer: PeerId) -> None:
        """The ban of this peer was taken back."""
        for address, bans in list(self._bans.items()):
            kept = [ban for ban in bans if ban.peer != peer]
            if not kept:
                del self._bans[address]
            elif len(kept) < len(bans):
                self._bans[address] = deque(kept, maxlen=self._bans_max)

    def tell(self, trusted: Iterable[str], honest: Iterable[str], now_s: float) -> None:
        """Who is connected: addresses of protected peers, which are never slowed and are remembered as long as bans,
        and addresses of peers that have kept the rules for a while.
        """
        for address in trusted:
            self._trusted[address] = now_s + self._memory_s
            self._trusted.move_to_end(address)
        while len(self._trusted) > ADDRESSES_MAX:
            self._trusted.popitem(last=False)
        self._honest = frozenset(honest)

    def refusal(self, address: str, now_s: float) -> str | None:
        """The counter's name if a new connection from there is refused now; one that is let in counts."""
        bans = self._count(address, now_s)
        if bans < self._slow_from:
            return None
        if bans < self._bans_max:
            return None if self._slow.of(address, now_s).take(1, now_s) else SLOWED
        if address in self._honest and self._trickle.of(address, now_s).take(1, now_s):
            return None
        return SHUT

    def address_of(self, peer: PeerId) -> str | None:
        """From where a peer came that was banned."""
        return next((address for address, bans in self._bans.items() if any(b.peer == peer for b in bans)), None)

    def reason(self, address: str, now_s: float) -> str | None:
        """Why new connections from there are refused, for people; None if they are not."""
        bans = self._count(address, now_s)
        if bans < self._slow_from:
            return None
        told = f"bans of peers at {address}: {bans}; "
        if bans < self._bans_max:
            return f"{told}one new connection in {1 / SLOW.per_s:.0f} s"
        left_s = self._bans[address][0].at_s + self._memory_s - now_s
        rate = f"one new connection in {1 / TRICKLE.per_s:.0f} s" if address in self._honest else "no new connections"
        return f"{told}{rate} for {left_s:.0f} s"

    def shown(self, now_s: float) -> dict[str, Any]:
        """How many addresses are slowed and shut, for a status page."""
        counts = [self._count(address, now_s) for address in list(self._bans)]
        shut = sum(count >= self._bans_max for count in counts)
        return {"slowed": sum(count >= self._slow_from for count in counts) - shut, "shut": shut}

    def _is_trusted(self, address: str, now_s: float) -> bool:
        return self._trusted.get(address, -math.inf) > now_s

    def _count(self, address: str, now_s: float) -> int:
        """Bans that count; those that are too old are forgotten here."""
        bans = self._bans.get(address)
        if bans is None:
            return 0
        while bans and bans[0].at_s + self._memory_s <= now_s:
            bans.popleft()
        if not bans:
            del self._bans[address]
        return 0 if self._is_trusted(address, now_s) else len(bans)
