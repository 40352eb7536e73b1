"""The one place that decides what a peer may do here: rates, score, bans; and that counts what it did.

``Libp2pNetwork`` and the in-memory network have one gate each. The parts of a network ask it before they let a
message in and tell it what was wrong with one; the node protects peers, keeps bans over restarts and shows them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import trio

from agent_world.config import NetConfig
from agent_world.net.address_bans import AddressBans
from agent_world.net.counters import Counters
from agent_world.net.rates import OWN_SHARE, SURE_SHARE, Buckets, RateClass, TokenBucket, rates_of
from agent_world.net.reputation import Ban, Offence, Reputation
from agent_world.net.traffic import Traffic
from agent_world.wire.ids import PeerId

log: Final = logging.getLogger(__name__)

RATE_BLAMED_EVERY_S: Final = 1.0
"""A peer above its rate is blamed once in so long, however much it sends: only lasting abuse leads to a ban."""
WAIT_S_MIN: Final = 0.001
"""A shorter wait for a bucket could be lost in rounding, and never end by a clock that stands still meanwhile."""
RATE_BLAMED_MAX: Final = 4_096
"""Times of blame kept; all are forgotten when there are more."""


class Gate:
    """Times of bans are in ms of the clock given; the node translates them into the time of day."""

    def __init__(self, config: NetConfig, counters: Counters, now_s: Callable[[], float]) -> None:
        self._counters = counters
        self._now_s = now_s
        rates = rates_of(config)
        self._let_in: dict[RateClass, Buckets[PeerId]] = {kind: Buckets(rate) for kind, rate in rates.items()}
        self._let_out: dict[RateClass, Buckets[PeerId]] = {
            kind: Buckets(rate.share(OWN_SHARE)) for kind, rate in rates.items()
        }
        self._sure: dict[RateClass, Buckets[PeerId]] = {
            kind: Buckets(rate.share(SURE_SHARE)) for kind, rate in rates.items()
        }
        self._shared = {kind: TokenBucket(rate, now_s()) for kind, rate in rates.items()}
        self._rate_blamed: dict[PeerId, float] = {}
        self._reputation = Reputation(int(config.ban_s * 1000))
        self._protected: Callable[[PeerId], bool] = lambda _peer: False
        self.address_bans = AddressBans(config.bans_per_ip_max, config.ban_s)
        self.traffic = Traffic()
        self.turn_away: Callable[[PeerId], None] = lambda _peer: None
        """The network's: end the connections of a peer that was banned just now."""
        self.address_of: Callable[[PeerId], str | None] = lambda _peer: None
        """The network's: from where a peer is connected, as ``doors.network_of`` says."""
        self.inbound: Callable[[], dict[str, Any]] = dict
        """The network's: inbound connections and refusals, for status pages."""
        self.banned: Callable[[Ban], None] = lambda _ban: None
        """The node's: note a ban that the gate has made by itself."""

    def now_ms(self) -> int:
        """The clock of bans."""
        return int(self._now_s() * 1000)

    def protect(self, is_protected: Callable[[PeerId], bool]) -> None:
        """Peers that are banned for proven faults only: validators, and whom the operator named."""
        self._protected = is_protected

    def is_protected(self, peer: PeerId) -> bool:
        """Whether this peer is banned for proven faults only."""
        return self._protected(peer)

    def admits(self, peer: PeerId, kind: RateClass, size: int) -> bool:
        """Whether a message of ``size`` bytes is within the peer's rates, and there is room for it beside the others.

        The caller drops or refuses it if not.
        """
        now_s = self._now_s()
        bytes_left = self._let_in[RateClass.BYTES].of(peer, now_s)
        if bytes_left.wait_s(size, now_s) == 0 and self._let_in[kind].of(peer, now_s).take(1, now_s):
            if not self._has_room(peer, kind, now_s):
                self._counters.add(f"rate_crowded.{kind.value}")  # the others are too many: not this peer's fault
                return False
            bytes_left.take(size, now_s)
            return True
        self._counters.add(f"rate_limited.{kind.value}")
        if now_s - self._rate_blamed.get(peer, -RATE_BLAMED_EVERY_S) >= RATE_BLAMED_EVERY_S:
            if len(self._rate_blamed) >= RATE_BLAMED_MAX:
                self._rate_blamed.clear()
            self._rate_blamed[peer] = now_s
            self.blame(peer, Offence.RATE)
        return False

    def _has_room(self, peer: PeerId, kind: RateClass, now_s: float) -> bool:
        if self._sure[kind].of(peer, now_s).take(1, now_s) or self._shared[kind].take(1, now_s):
            return True
        return self._protected(peer)

    async def slow_down(self, peer: PeerId, kind: RateClass, size: int) -> None:
        """Wait until the peer is within its rates and there is room for it, and count its message then.

        For streams whose sender waits for their reader, and who speak a protocol that knows no word for "too many":
        nobody is blamed, they just become slower.
        """
        counter = f"rate_slowed.{kind.value}"
        await self._take(self._let_in[kind].of(peer, self._now_s()), 1, counter)
        await self._take(self._let_in[RateClass.BYTES].of(peer, self._now_s()), size, counter)
        while not self._has_room(peer, kind, self._now_s()):
            self._counters.add(counter)
            await trio.sleep(max(WAIT_S_MIN, self._shared[kind].wait_s(1, self._now_s())))

    async def pace(self, peer: PeerId, kind: RateClass, size: int) -> None:
        """Wait until this node may send: it never goes above what others accept."""
        await self._take(self._let_out[kind].of(peer, self._now_s()), 1, "own_rate_waited")
        await self._take(self._let_out[RateClass.BYTES].of(peer, self._now_s()), size, "own_rate_waited")

    async def _take(self, bucket: TokenBucket, amount: float, counter: str) -> None:
        """Wait until it is there; every wait is counted."""
        while not bucket.take(amount, self._now_s()):
            self._counters.add(counter)
            await trio.sleep(max(WAIT_S_MIN, bucket.wait_s(amount, self._now_s())))

    def blame(self, peer: PeerId, offence: Offence) -> None:
        """The peer did this; it may be banned for it."""
        self._counters.add(f"offence.{offence.name.lower()}")
        ban = self._reputation.blame(peer, offence, self.now_ms(), is_protected=self._protected(peer))
        if ban is not None:
            self._counters.add("peer_banned")
            log.warning("%s is banned: %s", peer, ban.reason)
            address = self.address_of(peer)
            if address is not None:
                self.address_bans.note(address, peer, self._now_s())
            self.banned(ban)
            self.turn_away(peer)

    def tell_addresses(self, trusted: Iterable[str], honest: Iterable[str]) -> None:
        """The node's word for who is connected, as ``AddressBans.tell`` takes it."""
        self.address_bans.tell(trusted, honest, self._now_s())

    def address_limit(self, peer: PeerId) -> str | None:
        """Why new connections from a peer's address are refused, for people; None if they are not."""
        address = self.address_of(peer) or self.address_bans.address_of(peer)
        return None if address is None else self.address_bans.reason(address, self._now_s())

    def score(self, peer: PeerId) -> float:
        """0 without faults, negative else."""
        return self._reputation.score(peer, self.now_ms())

    def ban(self, peer: PeerId, until_ms: int, reason: str) -> None:
        """Ban by word of the operator, or as remembered from an earlier run."""
        self._reputation.ban(peer, until_ms, reason)
        self.turn_away(peer)

    def unban(self, peer: PeerId) -> bool:
        """End a ban; whether there was one."""
        self.address_bans.forgive(peer)
        return self._reputation.unban(peer)

    def ban_of(self, peer: PeerId) -> Ban | None:
        """The ban of a peer, if it has one now."""
        return self._reputation.ban_of(peer, self.now_ms())

    def is_banned(self, peer: PeerId) -> bool:
        """Whether the peer is neither dialled nor let in now."""
        return self.ban_of(peer) is not None

    def bans(self) -> tuple[Ban, ...]:
        """All bans, ascending by peer."""
        return self._reputation.bans(self.now_ms())

    def shown(self) -> dict[str, Any]:
        """Inbound connections, bans and traffic, for a status page."""
        inbound = {**self.inbound(), "by_bans": self.address_bans.shown(self._now_s())}
        return {"inbound": inbound, "banned": len(self.bans()), **self.traffic.shown()}
