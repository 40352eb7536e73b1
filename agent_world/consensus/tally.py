"""The votes of one (round, step): who voted for what, and which choice has the required stake."""

from __future__ import annotations

from enum import Enum

import attrs

from agent_world.consensus.messages import VerifiedVote
from agent_world.consensus.validators import ValidatorSet
from agent_world.wire.ids import Hash32, PublicKey

Choice = Hash32 | None
"""A block, or None for nil."""


class Added(Enum):
    """What became of a vote."""

    COUNTED = "counted"
    DUPLICATE = "duplicate"
    COUNTED_TWICE = "counted_twice"
    """The validator voted for something else before: evidence, and its stake counts for both."""
    CONFLICTING = "conflicting"
    """As above, but for a block nobody here has seen: evidence, not kept."""


@attrs.frozen(slots=True)
class Quorum:
    """The required stake agreed on this choice."""

    choice: Choice


class Tally:
    """Counts verified votes by stake.

    An equivocator's stake counts once for every choice it voted for: two quorums still share an honest voter while
    faulty stake is below a third, and a node that was shown the other vote first can follow the rest. It is kept
    for at most the known blocks and nil, so that it cannot fill the memory.
    """

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._votes: dict[PublicKey, dict[Choice, VerifiedVote]] = {}
        self._stake: dict[Choice, int] = {}
        self.stake = 0
        """Stake that voted at all."""
        self.quorum: Quorum | None = None
        """Set once and for good when a choice reaches the required stake."""

    def add(self, vote: VerifiedVote, *, block_known: bool) -> Added:
        """Count a vote; ``block_known`` says whether a verified proposal of its block is here (true for nil)."""
        own = self._votes.setdefault(vote.signature.key, {})
        choice = vote.vote.block_hash
        if choice in own:
            return Added.DUPLICATE
        if own and not block_known:
            return Added.CONFLICTING
        added = Added.COUNTED_TWICE if own else Added.COUNTED
        if not own:
            self.stake += vote.validator.stake
        own[choice] = vote
        self._stake[choice] = self._stake.get(choice, 0) + vote.validator.stake
        if self.quorum is None and self._validators.is_quorum(self._stake[choice]):
            self.quorum = Quorum(choice)
        return added

    def first_of(self, key: PublicKey) -> VerifiedVote | None:
        """The first vote of this validator that was counted."""
        own = self._votes.get(key)
        return next(iter(own.values())) if own else None

    def stake_for(self, choice: Choice) -> int:
        """Stake that voted for this choice."""
        return self._stake.get(choice, 0)

    def votes_for(self, choice: Choice) -> tuple[VerifiedVote, ...]:
        """The votes for this choice, ascending by key."""
        return tuple(own[choice] for _, own in sorted(self._votes.items()) if choice in own)

    def all_votes(self) -> tuple[VerifiedVote, ...]:
        """Every vote kept, ascending by key."""
        return tuple(vote for _, own in sorted(self._votes.items()) for vote in own.values())

    def remove(self, key: PublicKey) -> None:
        """Forget a validator's votes; only while there is no quorum, which is for good."""
        own = self._votes.pop(key, {})
        for choice, vote in own.items():
            self._stake[choice] -= vote.validator.stake
        if own:
            self.stake -= next(iter(own.values())).validator.stake
