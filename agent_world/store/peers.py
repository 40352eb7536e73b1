"""The peer book: addresses worth dialling after a restart. Hints only, so losing a row harms nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from agent_world.errors import DecodeError
from agent_world.store.database import Row
from agent_world.store.home import Home
from agent_world.wire import cbor
from agent_world.wire.ids import PeerId, TimeMs, check_peer_id
from agent_world.wire.limits import ADDRESS_CHARS_MAX

ADDRESSES_PER_PEER_MAX: Final = 8
"""Newest first; a node on many interfaces is still reached by one of these."""
VERIFIED_TTL_MS: Final = 7 * 24 * 3_600 * 1_000
"""A peer we were connected to is kept for a week, so that a node which was off still finds its swarm."""
_ADDRESSES_BYTES_MAX: Final = ADDRESSES_PER_PEER_MAX * (4 * ADDRESS_CHARS_MAX + 8)


@attrs.frozen(slots=True, kw_only=True)
class KnownPeer:
    """One row of the book."""

    peer_id: PeerId
    addresses: tuple[str, ...]
    """Multiaddrs without /p2p, newest first."""
    last_seen_ms: TimeMs
    verified: bool
    """We were connected to this peer at one of these addresses; otherwise somebody told us of it."""


class PeerBook:
    """At most ``peers_max`` peers; hearsay is forgotten after ``ttl_ms``, verified peers after VERIFIED_TTL_MS."""

    def __init__(self, home: Home, *, peers_max: int, ttl_ms: int) -> None:
        self._database = home.database
        self._peers_max = peers_max
        self._ttl_ms = {0: ttl_ms, 1: max(ttl_ms, VERIFIED_TTL_MS)}
        self._counters: Counter[str] = Counter()

    def seen(self, peer_id: PeerId, addresses: Iterable[str], now_ms: int, *, verified: bool) -> None:
        """Note a peer. Hearsay about a verified peer changes nothing: only a connection replaces what one proved.

        Raises DecodeError for what is not a peer id; addresses over ADDRESS_CHARS_MAX are dropped and counted.
        """
        check_peer_id(peer_id)
        fitting = [address for address in addresses if self._fits(address)]
        with self._database.transaction():
            known = self.get(peer_id)
            if known is not None and known.verified and not verified:
                self._counters["hearsay_ignored"] += 1
                return
            merged = tuple(dict.fromkeys([*fitting, *(known.addresses if known else ())]))[:ADDRESSES_PER_PEER_MAX]
            last_seen_ms = max(now_ms, known.last_seen_ms) if known else now_ms
            self._database.execute(
                "INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?)",
                (peer_id, cbor.encode(list(merged)), last_seen_ms, int(verified)),
            )
            if known is None:
                self._make_room()

    def get(self, peer_id: PeerId) -> KnownPeer | None:
        """What is known of a peer, also if it is old."""
        rows = self._database.query(f"SELECT {_COLUMNS} FROM peers WHERE peer_id = ?", (peer_id,))
        return self._peer(rows[0]) if rows else None

    def all(self, now_ms: int) -> tuple[KnownPeer, ...]:
        """Peers that are not too old, verified ones first, then the last seen first."""
        rows = self._database.query(f"SELECT {_COLUMNS} FROM peers ORDER BY verified DESC, last_seen_ms DESC, peer_id")
        peers = [peer for row in rows if (peer := self._peer(row)) is not None]
        return tuple(peer for peer in peers if now_ms - peer.last_seen_ms <= self._ttl_ms[int(peer.verified)])

    def forget(self, peer_id: PeerId) -> bool:
        """Remove a peer; whether it was known."""
        with self._database.transaction():
            return self._database.execute("DELETE FROM peers WHERE peer_id = ?", (peer_id,)) == 1

    def prune(self, now_ms: int) -> int:
        """Remove what is too old; returns how many."""
        with self._database.transaction():
            removed = sum(
                self._database.execute(
                    "DELETE FROM peers WHERE verified = ? AND last_seen_ms < ?", (verified, now_ms - ttl_ms)
                )
                for verified, ttl_ms in self._ttl_ms.items()
            )
        self._counters["expired"] += removed
        return removed

    def counters(self) -> Mapping[str, int]:
        """Since start: evicted, expired, hearsay_ignored, addresses_dropped, damaged."""
        return dict(self._counters)

    def _fits(self, address: str) -> bool:
        fits = 0 < len(address) <= ADDRESS_CHARS_MAX
        self._counters["addresses_dropped"] += not fits
        return fits

    def _make_room(self) -> None:
        """Above the cap the least useful go: hearsay before verified, the longest unseen first."""
        excess = self._database.query("SELECT count(*) FROM peers")[0][0] - self._peers_max
        if excess > 0:
            self._counters["evicted"] += self._database.execute(
                "DELETE FROM peers WHERE peer_id IN"
                " (SELECT peer_id FROM peers ORDER BY verified, last_seen_ms, peer_id LIMIT ?)",
                (excess,),
            )

    def _peer(self, row: Row) -> KnownPeer | None:
        """None for a damaged row: a hint less, which is counted and written anew when the peer is seen again."""
        peer_id, addresses, last_seen_ms, verified = row
        try:
            texts = cbor.decode(addresses, size_max=_ADDRESSES_BYTES_MAX)
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise DecodeError("D8", "addresses are not a list of text")
            check_peer_id(peer_id)
        except (DecodeError, TypeError):
            self._counters["damaged"] += 1
            return None
        return KnownPeer(peer_id=peer_id, addresses=tuple(texts), last_seen_ms=last_seen_ms, verified=bool(verified))


_COLUMNS: Final = "peer_id, addresses, last_seen_ms, verified"
