"""Messages of the next heights, kept until their height comes."""

from __future__ import annotations

from typing import Final

from agent_world.consensus.messages import EarlyMessage
from agent_world.wire.ids import PublicKey
from agent_world.wire.limits import KIB

EARLY_MESSAGES_PER_VALIDATOR_MAX: Final = 16
"""A validator that is ahead sends a proposal and two votes a round; above the bound its oldest message gives way."""
EARLY_BYTES_PER_VALIDATOR_MAX: Final = 136 * KIB
"""Two proposals of PROPOSAL_BYTES_MAX and votes; times VALIDATORS_MAX it bounds the buffer to 34 MiB."""


class EarlyBuffer:
    """Bounded per validator, so that none can push out another's messages."""

    def __init__(self) -> None:
        self._by_key: dict[PublicKey, list[EarlyMessage]] = {}

    def add(self, message: EarlyMessage) -> int:
        """Keep a message; returns how many older ones of its signer gave way. A repeated one is kept once."""
        kept = self._by_key.setdefault(message.key, [])
        if message in kept:
            return 0
        kept.append(message)
        gone = 0
        while (
            len(kept) > EARLY_MESSAGES_PER_VALIDATOR_MAX
            or sum(len(other.data) for other in kept) > EARLY_BYTES_PER_VALIDATOR_MAX
        ):
            kept.pop(0)
            gone += 1
        return gone

    def take(self, height: int) -> list[EarlyMessage]:
        """Remove and return what waited for ``height``; what waited for a lower one is gone too."""
        due = [message for kept in self._by_key.values() for message in kept if message.height == height]
        later = {key: [message for message in kept if message.height > height] for key, kept in self._by_key.items()}
        self._by_key = {key: kept for key, kept in later.items() if kept}
        return due
