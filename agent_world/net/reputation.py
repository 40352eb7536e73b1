"""What a peer has done wrong, fading with time, and who is banned until when. Pure: time is given, in ms.

Only what a peer did counts. Being slow, silent, behind or repeating what others said costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Final

import attrs

from agent_world.wire.ids import PeerId

BAN_BELOW: Final = -100.0
"""A score below this is a ban."""
HALF_LIFE_MS: Final = 120_000
"""After this half of a score is forgotten: a fault now and then never adds up to a ban."""
SCORED_MAX: Final = 4_096
"""Peers with a score; the one blamed longest ago is forgotten."""
BANS_MAX: Final = 4_096
"""Bans kept; the one that ends first is forgotten."""


class Offence(Enum):
    """``weight`` is what one costs; ``proven``: the bytes themselves show the fault, whatever this node's state is."""

    GARBAGE = ("garbage", 20.0, True)
    """A frame, request, hello or gossip message that cannot be decoded."""
    BROKEN_FRAMING = ("broken framing", 34.0, True)
    """Lengths over the limit, frames that are never completed."""
    WRONG_BYTES = ("wrong bytes", 20.0, True)
    """Content that does not hash to the name it was asked by, or answers nobody asked for."""
    FALSE_PROOF = ("false proof of being a validator", 34.0, True)
    """A hello with a validator's proof that does not verify, or is another peer's."""
    INVALID_GOSSIP = ("invalid gossip", 15.0, False)
    """A gossip message that breaks a [REJECT] rule, published or forwarded: whoever forwards it should have checked."""
    INVALID_MESSAGE = ("invalid messages", 5.0, False)
    """A one-way message or a request that breaks a rule."""
    RATE = ("rate abuse", 20.0, False)
    """A second in which the peer was above a rate limit."""

    def __init__(self, title: str, weight: float, proven: bool) -> None:
        self.title = title
        self.weight = weight
        self.proven = proven


@attrs.frozen(slots=True)
class Ban:
    """A peer that is neither dialled nor let in until ``until_ms``."""

    peer: PeerId
    until_ms: int
    reason: str


@attrs.define(slots=True)
class _Record:
    all_faults: float = 0.0
    proven_faults: float = 0.0
    at_ms: int = 0

    def fade(self, now_ms: int) -> None:
        left = 0.5 ** (max(0, now_ms - self.at_ms) / HALF_LIFE_MS)
        self.all_faults *= left
        self.proven_faults *= left
        self.at_ms = max(self.at_ms, now_ms)


class Reputation:
    """Scores and bans of one node; ``ban_ms`` is how long a ban for a low score lasts."""

    def __init__(self, ban_ms: int) -> None:
        self._ban_ms = ban_ms
        self._records: OrderedDict[PeerId, _Record] = OrderedDict()
        self._bans: dict[PeerId, Ban] = {}

    def blame(self, peer: PeerId, offence: Offence, now_ms: int, *, is_protected: bool) -> Ban | None:
        """Lower the score; the ban that this brings about, if any. Proven faults alone ban a protected peer."""
        record = self._records.setdefault(peer, _Record(at_ms=now_ms))
        self._records.move_to_end(peer)
        while len(self._records) > SCORED_MAX:
            self._records.popitem(last=False)
        record.fade(now_ms)
        record.all_faults += offence.weight
        record.proven_faults += offence.weight if offence.proven else 0.0
        counted = record.proven_faults if is_protected else record.all_faults
        if -counted >= BAN_BELOW or self.ban_of(peer, now_ms) is not None:
            return None
        return self.ban(peer, now_ms + self._ban_ms, offence.title)

    def score(self, peer: PeerId, now_ms: int) -> float:
        """0 for a peer without faults, negative else."""
        record = self._records.get(peer)
        if record is None:
            return 0.0
        record.fade(now_ms)
        return -record.all_faults

    def ban(self, peer: PeerId, until_ms: int, reason: str) -> Ban:
        """Ban; a further ban replaces the first."""
        ban = self._bans[peer] = Ban(peer, until_ms, reason)
        while len(self._bans) > BANS_MAX:
            del self._bans[min(self._bans, key=lambda known: self._bans[known].until_ms)]
        return ban

    def unban(self, peer: PeerId) -> bool:
        """End a ban and forget the faults; whether there was one."""
        self._records.pop(peer, None)
        return self._bans.pop(peer, None) is not None

    def ban_of(self, peer: PeerId, now_ms: int) -> Ban | None:
        """The ban of a peer, if it has not ended."""
        ban = self._bans.get(peer)
        if ban is not None and ban.until_ms <= now_ms:
            # Whoever comes back after a ban starts anew, and not one fault away from the next.
            self.unban(peer)
            return None
        return ban

    def bans(self, now_ms: int) -> tuple[Ban, ...]:
        """All bans that have not ended, ascending by peer."""
        return tuple(ban for peer in sorted(self._bans) if (ban := self.ban_of(peer, now_ms)) is not None)
