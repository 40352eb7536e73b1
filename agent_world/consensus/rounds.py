"""What was heard in each round of a height: proposals, votes, blocks; who is how far; what is forgotten first."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import attrs

from agent_world.consensus.events import Drop, Dropped, Effect, EvidenceFound
from agent_world.consensus.messages import VerifiedProposal, VerifiedVote
from agent_world.consensus.tally import Added, Tally
from agent_world.consensus.validators import ValidatorSet
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import Step
from agent_world.wire.ids import Hash32, PublicKey

ROUNDS_BACK_MAX: Final = 64
"""Past rounds whose votes are kept; an older one only while a proposal refers to its prevotes. Later waits are
minutes long, so votes from further back are repeats."""
FUTURE_ROUNDS_PER_VALIDATOR_MAX: Final = 4
"""Rounds ahead in which one validator's messages are kept: an honest one is in one round, its messages overtake
each other."""
BLOCKS_PER_HEIGHT_MAX: Final = 128
"""Blocks kept of one height, two a round at most; 26 KiB each with 512 action ids."""


@attrs.frozen(slots=True)
class KnownBlock:
    """A block that some proposer has signed and whose header fits the height."""

    block: bytes
    actions: tuple[ContentHash, ...]


class Round:
    """What was heard in one round."""

    def __init__(self, validators: ValidatorSet) -> None:
        self.prevotes = Tally(validators)
        self.precommits = Tally(validators)
        self.proposal: VerifiedProposal | None = None
        """The first one heard: the one that is voted on."""
        self.accused: set[tuple[PublicKey, Step]] = set()
        """Whose contradiction was reported; once is enough."""

    def tally(self, step: Step) -> Tally:
        """The votes of one step."""
        return self.prevotes if step is Step.PREVOTE else self.precommits

    @property
    def is_empty(self) -> bool:
        """Whether nothing that was heard is left."""
        return self.proposal is None and self.prevotes.stake == 0 and self.precommits.stake == 0

    def forget(self, key: PublicKey) -> None:
        """Drop one validator's messages."""
        self.prevotes.remove(key)
        self.precommits.remove(key)
        if self.proposal is not None and self.proposal.validator.public_key == key:
            self.proposal = None


class RoundBook:
    """All rounds of one height."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self.rounds: dict[int, Round] = {}
        self.blocks: dict[Hash32, KnownBlock] = {}
        self.current = 0
        """The round this node is in."""
        self._highest: dict[PublicKey, int] = {}
        self._ahead: dict[PublicKey, list[int]] = {}

    def at(self, round_: int) -> Round:
        """The round's record, made if it is new."""
        found = self.rounds.get(round_)
        if found is None:
            found = self.rounds[round_] = Round(self._validators)
        return found

    def prevotes(self, round_: int) -> Tally | None:
        """Prevotes of a round; None if nothing was heard of it."""
        found = self.rounds.get(round_)
        return None if found is None else found.prevotes

    def add_vote(self, vote: VerifiedVote) -> tuple[Effect, ...]:
        """Count a vote; the effects say what was dropped and what is evidence."""
        refused = self._admit(vote.signature.key, vote.vote.round)
        if refused is not None:
            return (refused,)
        here = self.at(vote.vote.round)
        tally = here.tally(vote.vote.step)
        first = tally.first_of(vote.signature.key)
        block_hash = vote.vote.block_hash
        added = tally.add(vote, block_known=block_hash is None or block_hash in self.blocks)
        effects = self._make_room(vote.signature.key)
        if added is Added.DUPLICATE:
            return (*effects, Dropped(Drop.DUPLICATE))
        if added is Added.CONFLICTING:
            effects = (*effects, Dropped(Drop.CONFLICTING, vote.validator.validator_id))
        if first is not None:
            effects = (*effects, *self._accuse(here, vote.signature.key, vote.vote.step, first.data, vote.data))
        return effects

    def add_proposal(self, heard: VerifiedProposal, keep: Collection[Hash32]) -> tuple[Effect, ...]:
        """Note a proposal and its block; blocks in ``keep`` are not forgotten for it."""
        key, round_ = heard.validator.public_key, heard.proposal.round
        refused = self._admit(key, round_)
        if refused is not None:
            return (refused,)
        here = self.at(round_)
        effects = self._make_room(key)
        first = here.proposal
        if first is None:
            here.proposal = heard
        elif first.proposal == heard.proposal:
            return (*effects, Dropped(Drop.DUPLICATE))
        else:
            accused = self._accuse(here, key, Step.PROPOSE, first.data, heard.data)
            if not accused:
                return (*effects, Dropped(Drop.CONFLICTING, heard.validator.validator_id))
            effects = (*effects, *accused)
        return (*effects, *self._keep_block(heard, keep))

    def skip_target(self) -> int | None:
        """The highest round that stake which cannot be all faulty has reached, if it lies ahead.

        At least one honest validator is there, so nobody can be lured ahead by liars alone.
        """
        if max(self._highest.values(), default=-1) <= self.current:
            return None  # nearly always
        stake = 0
        for key, round_ in sorted(self._highest.items(), key=lambda item: item[1], reverse=True):
            if round_ <= self.current:
                return None
            entry = self._validators.by_key(key)
            stake += entry.stake if entry is not None else 0
            if stake >= self._validators.skip_stake:
                return round_
        return None

    def stake_heard(self) -> int:
        """Stake of all validators that sent anything in this height."""
        entries = (self._validators.by_key(key) for key in self._highest)
        return sum(entry.stake for entry in entries if entry is not None)

    def move_to(self, round_: int, pinned: Collection[int]) -> None:
        """This node is in ``round_`` now; rounds too far back are forgotten unless ``pinned``."""
        self.current = round_
        for old in [known for known in self.rounds if known < round_ - ROUNDS_BACK_MAX and known not in pinned]:
            del self.rounds[old]

    def _admit(self, key: PublicKey, round_: int) -> Dropped | None:
        if round_ < self.current - ROUNDS_BACK_MAX and round_ not in self._referred():
            return Dropped(Drop.ROUND_TOO_OLD, f"round {round_} in round {self.current}")
        if round_ > self._highest.get(key, -1):
            self._highest[key] = round_
        if round_ > self.current:
            ahead = self._ahead.setdefault(key, [])
            if round_ not in ahead:
                ahead.append(round_)
        return None

    def _referred(self) -> tuple[int, ...]:
        """The old round whose prevotes the current proposal needs."""
        here = self.rounds.get(self.current)
        if here is None or here.proposal is None or here.proposal.proposal.valid_round is None:
            return ()
        return (here.proposal.proposal.valid_round,)

    def _make_room(self, key: PublicKey) -> tuple[Effect, ...]:
        """One validator's messages are kept in few future rounds: the lowest gives way."""
        ahead = self._ahead.get(key)
        if ahead is None:
            return ()
        ahead[:] = sorted(round_ for round_ in ahead if round_ > self.current)
        if len(ahead) <= FUTURE_ROUNDS_PER_VALIDATOR_MAX:
            return ()
        lowest = self.rounds.get(ahead.pop(0))
        # A quorum ahead is never undone; it will make this node skip there or commit.
        if lowest is not None and lowest.prevotes.quorum is None and lowest.precommits.quorum is None:
            lowest.forget(key)
            if lowest.is_empty:
                self.rounds = {number: kept for number, kept in self.rounds.items() if kept is not lowest}
        return (Dropped(Drop.FUTURE_ROUNDS_FULL),)

    def _accuse(self, here: Round, key: PublicKey, step: Step, first: bytes, second: bytes) -> tuple[Effect, ...]:
        if (key, step) in here.accused:
            return ()
        here.accused.add((key, step))
        return (EvidenceFound(first, second),)

    def _keep_block(self, heard: VerifiedProposal, keep: Collection[Hash32]) -> tuple[Effect, ...]:
        if heard.block_hash in self.blocks:
            return ()
        effects: tuple[Effect, ...] = ()
        if len(self.blocks) >= BLOCKS_PER_HEIGHT_MAX:
            oldest = next((known for known in self.blocks if known not in keep), None)
            if oldest is not None:
                del self.blocks[oldest]
                effects = (Dropped(Drop.BLOCKS_FULL, oldest.hex()),)
        self.blocks[heard.block_hash] = KnownBlock(heard.proposal.block, heard.proposal.actions)
        return effects
