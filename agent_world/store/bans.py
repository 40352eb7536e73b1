"""Banned peers, over restarts. Apart from the peer book, so that making room there never lets anybody back in."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.errors import DecodeError
from agent_world.store.home import Home
from agent_world.wire.ids import PeerId, check_peer_id

BANS_MAX: Final = 4_096
"""Bans kept; the one that ends first is forgotten."""
REASON_CHARS_MAX: Final = 256
"""Longer reasons are cut."""


@attrs.frozen(slots=True, kw_only=True)
class KnownBan:
    """One row; ``until_ms`` is a time of day, and ``score`` what the peer had when it was banned."""

    peer_id: PeerId
    until_ms: int
    reason: str
    score: int


class BanBook:
    """The bans in a home."""

    def __init__(self, home: Home) -> None:
        self._database = home.database

    def add(self, ban: KnownBan) -> None:
        """Note a ban; replaces an earlier one of the same peer. Raises DecodeError for what is not a peer id."""
        check_peer_id(ban.peer_id)
        with self._database.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO peer_bans VALUES (?, ?, ?, ?)",
                (ban.peer_id, ban.until_ms, ban.reason[:REASON_CHARS_MAX], ban.score),
            )
            self._database.execute(
                "DELETE FROM peer_bans WHERE peer_id NOT IN"
                " (SELECT peer_id FROM peer_bans ORDER BY until_ms DESC, peer_id LIMIT ?)",
                (BANS_MAX,),
            )

    def remove(self, peer_id: PeerId) -> bool:
        """End a ban; whether there was one."""
        with self._database.transaction():
            return self._database.execute("DELETE FROM peer_bans WHERE peer_id = ?", (peer_id,)) == 1

    def all(self, now_ms: int) -> tuple[KnownBan, ...]:
        """Bans that have not ended, ascending by peer; a damaged row is passed over."""
        rows = self._database.query(
            "SELECT peer_id, until_ms, reason, score FROM peer_bans WHERE until_ms > ? ORDER BY peer_id", (now_ms,)
        )
        bans = []
        for peer_id, until_ms, reason, score in rows:
            try:
                bans.append(
                    KnownBan(peer_id=PeerId(check_peer_id(peer_id)), until_ms=until_ms, reason=reason, score=score)
                )
            except DecodeError:
                continue
        return tuple(bans)

    def prune(self, now_ms: int) -> int:
        """Remove bans that have ended; returns how many."""
        with self._database.transaction():
            return self._database.execute("DELETE FROM peer_bans WHERE until_ms <= ?", (now_ms,))
