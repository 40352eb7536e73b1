"""What the count-based quorum keeps: member sets, votes, records and decisions, and why it refuses.

Sets, votes and records are also how they are encoded in a snapshot; none of them is ever sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, TypeVar

import attrs

from agent_world.config import require
from agent_world.consensus.stake import PosStatus, decide_pos_status, required_stake
from agent_world.errors import AgentWorldError, DecodeError, ErrorCode, UsageError
from agent_world.wire import record
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U64, Hash32, Name, TimeMs, ValidatorId, WorldId, check_word
from agent_world.wire.limits import U64_MAX, VALIDATORS_MAX

R = TypeVar("R")

RECORDS_PER_WORLD_MAX: Final = 4_096
"""Largest and default limit of records a world; source: the reference system"""
SEATS_PER_WORLD_MAX: Final = 65_536
"""Votes that a world's records have room for; binds before the limit of records where there are over 16 validators."""
WORLDS_MAX: Final = 4
"""Worlds of one facade. They are never forgotten, since their committed floors must not be."""
SETS_MAX: Final = 64
"""Versions of the member set that are kept; records of older ones are pruned."""


class QuorumRefusal(StrEnum):
    """Why something was refused; the words are stable codes."""

    MALFORMED = "malformed"
    """A field is out of its range or form."""
    UNKNOWN_VALIDATOR = "unknown_validator"
    UNKNOWN_RECORD = "unknown_record"
    """Nothing was proposed at this height and attempt, or it was pruned."""
    STALE_HEIGHT = "stale_height"
    """The height is committed, below one that is, or 0."""
    CONFLICTING_HEAD = "conflicting_head"
    """Another head is being voted on in this attempt."""
    WRONG_ATTEMPT = "wrong_attempt"
    """Not the attempt that is open at this height."""
    HASH_MISMATCH = "hash_mismatch"
    CHANGED_VOTE = "changed_vote"
    RECORD_FINAL = "record_final"
    RECORD_PENDING = "record_pending"
    """The members cannot change while a record is open."""
    TOO_MANY_RECORDS = "too_many_records"
    """The world is full of records that are open; they are never dropped."""
    TOO_MANY_WORLDS = "too_many_worlds"
    INVALID_SET = "invalid_set"
    """The change would leave a set that is empty, too large or without a threshold above one half."""
    NOT_COMMITTED = "not_committed"
    """No such head was given out to be published."""


class QuorumRefused(AgentWorldError):
    """The quorum refuses; nothing has changed. ``why`` is the stable code."""

    exit_code = 76
    wire_code = ErrorCode.BAD_REQUEST

    def __init__(self, why: QuorumRefusal, detail: str) -> None:
        super().__init__(f"{why}: {detail}")
        self.why = why
        self.detail = detail


def demand(condition: bool, why: QuorumRefusal, detail: str) -> None:
    """Raise QuorumRefused unless the condition holds."""
    if not condition:
        raise QuorumRefused(why, detail)


def checked(value: R) -> R:
    """The same record, if a snapshot can hold it; raises QuorumRefused(MALFORMED)."""
    try:
        return record.structure(record.unstructure(value), type(value))
    except DecodeError as error:
        raise QuorumRefused(QuorumRefusal.MALFORMED, error.detail) from None


@attrs.frozen(slots=True, kw_only=True)
class QuorumSet:
    """Who votes, and how many approvals decide. Raises UsageError when built unless it is as the fields say."""

    version: U64
    """1 for the first set, one more with every change."""
    validators: tuple[ValidatorId, ...]
    """1..VALIDATORS_MAX, ascending, none twice."""
    quorum_threshold: U64
    """More than half of the members and at most all of them."""

    def __attrs_post_init__(self) -> None:
        size = len(self.validators)
        require(0 < size <= VALIDATORS_MAX, f"{size} validators; 1 to {VALIDATORS_MAX} may vote")
        require(list(self.validators) == sorted(set(self.validators)), "validators are not ascending and unique")
        require(1 <= self.version <= U64_MAX, "the versions of the set are used up")
        # A threshold is the ratio threshold/size of the kernel, with a stake of 1 each.
        required_stake(size, self.quorum_threshold, size)

    @classmethod
    def of(cls, version: int, names: Iterable[str], quorum_threshold: int) -> QuorumSet:
        """A set from names as people write them: trimmed, blank ones skipped, repeated ones once.

        Threshold 0 is the majority. Raises UsageError.
        """
        try:
            members = sorted({ValidatorId(check_word(name.strip())) for name in names if name.strip()})
        except DecodeError as error:
            raise UsageError(error.detail) from None
        threshold = quorum_threshold or majority(len(members))
        return cls(version=U64(version), validators=tuple(members), quorum_threshold=U64(threshold))


def majority(size: int) -> int:
    """The least count that is more than half of ``size``."""
    return size // 2 + 1


@attrs.frozen(slots=True, kw_only=True)
class QuorumConfig:
    """What a quorum starts with; raises UsageError when built from what cannot work."""

    validators: tuple[str, ...]
    """Trimmed, blank ones skipped, repeated ones once; at least one must be left."""
    quorum_threshold: int = 0
    """Approvals that commit: more than half of the validators and at most all; 0 is the majority."""
    max_records_per_world: int = RECORDS_PER_WORLD_MAX
    """1..RECORDS_PER_WORLD_MAX; the lowest finalised record is dropped for a new one."""

    def __attrs_post_init__(self) -> None:
        limit = self.max_records_per_world
        require(
            0 < limit <= RECORDS_PER_WORLD_MAX, f"max_records_per_world {limit} is not in 1..{RECORDS_PER_WORLD_MAX}"
        )
        self.first_set()

    def first_set(self) -> QuorumSet:
        """The members at the start, version 1."""
        return QuorumSet.of(1, self.validators, self.quorum_threshold)


@attrs.frozen(slots=True, kw_only=True)
class QuorumVote:
    """One validator's word on one record. The caller has checked that it is that validator's."""

    validator_id: ValidatorId
    approve: bool
    reason: Name | None
    """For people; like the time no part of what is voted, so that a repetition may differ in both."""
    voted_at_ms: TimeMs


@attrs.frozen(slots=True, kw_only=True)
class QuorumRecord:
    """A proposed head and the votes on it; immutable, each vote makes a new one."""

    head: WorldHead
    attempt: U64
    """Which proposal of this height it is; a new one is opened only when the last was rejected (Q-3)."""
    proposer_id: ValidatorId
    proposed_at_ms: TimeMs
    set_version: U64
    """The members who vote on it; the next two fields are theirs, frozen."""
    quorum_threshold: U64
    validator_count: U64
    votes: tuple[QuorumVote, ...]
    """Ascending by validator_id, one each."""

    @property
    def approvals(self) -> int:
        """How many approve."""
        return sum(vote.approve for vote in self.votes)

    @property
    def rejections(self) -> int:
        """How many reject."""
        return len(self.votes) - self.approvals

    @property
    def status(self) -> PosStatus:
        """What the votes decide, by the stake kernel with a stake of 1 each; never stored."""
        return decide_pos_status(self.validator_count, self.quorum_threshold, self.approvals, self.rejections)

    def vote_of(self, validator_id: ValidatorId) -> QuorumVote | None:
        """The vote of this validator, if it has voted."""
        return next((vote for vote in self.votes if vote.validator_id == validator_id), None)

    def with_vote(self, vote: QuorumVote) -> QuorumRecord:
        """The record with one vote more, of a validator that has not voted yet."""
        votes = sorted((*self.votes, vote), key=lambda item: item.validator_id)
        return attrs.evolve(self, votes=tuple(votes))


@attrs.frozen(slots=True, kw_only=True)
class QuorumDecision:
    """Where the votes on one record stand."""

    world_id: WorldId
    height: int
    attempt: int
    block_hash: Hash32
    status: PosStatus
    approvals: int
    rejections: int
    quorum_threshold: int
    publish: WorldHead | None = None
    """Set once, in the answer to the call that committed the highest head so far: publish it, then confirm."""

    @classmethod
    def on(cls, found: QuorumRecord, publish: WorldHead | None = None) -> QuorumDecision:
        """The decision on a record."""
        return cls(
            world_id=found.head.world_id,
            height=found.head.height,
            attempt=found.attempt,
            block_hash=found.head.block_hash,
            status=found.status,
            approvals=found.approvals,
            rejections=found.rejections,
            quorum_threshold=found.quorum_threshold,
            publish=publish,
        )
