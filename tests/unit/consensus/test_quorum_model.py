"""Any sequence of calls against a model that knows no limits of its own but remembers everything."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from quorum_sample import W, head, vote

from agent_world.consensus import quorum_snapshot
from agent_world.consensus.quorum import QuorumConsensus
from agent_world.consensus.quorum_change import AddValidator, QuorumChange, RemoveValidator, ReplaceValidators
from agent_world.consensus.quorum_records import QuorumConfig, QuorumDecision, QuorumRefused
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import TimeMs, ValidatorId

LIMIT = 3
NAMES = st.sampled_from([ValidatorId(name) for name in "abcde"])
HEIGHTS = st.integers(0, 9)
VARIANTS = st.sampled_from("xy")


@attrs.define
class Ballot:
    """One record of the model."""

    head: WorldHead
    count: int
    threshold: int
    members: frozenset[str]
    votes: dict[str, bool]
    pruned: bool = False

    @property
    def status(self) -> str:
        approvals = sum(self.votes.values())
        if approvals >= self.threshold:
            return "committed"
        return "rejected" if len(self.votes) - approvals > self.count - self.threshold else "pending"


class QuorumMachine(RuleBasedStateMachine):
    """Every answer and every refusal is the model's."""

    def __init__(self) -> None:
        super().__init__()
        self.quorum = QuorumConsensus(QuorumConfig(validators=("a", "b", "c"), max_records_per_world=LIMIT))
        self.members, self.threshold = {"a", "b", "c"}, 2
        self.ballots: dict[tuple[int, int], Ballot] = {}
        self.floor = self.published = 0
        self.waiting: WorldHead | None = None
        self.given_out: list[int] = []

    def kept(self) -> dict[tuple[int, int], Ballot]:
        return {key: ballot for key, ballot in self.ballots.items() if not ballot.pruned}

    def last(self, height: int) -> tuple[tuple[int, int], Ballot] | None:
        return max(((key, ballot) for key, ballot in self.kept().items() if key[0] == height), default=None)

    def called(self, method: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options)
        except QuorumRefused as refusal:
            return refusal.why.value

    def count(self, key: tuple[int, int], who: str, approve: bool) -> str | None:
        """What the model expects: a refusal, or None and the vote is counted."""
        ballot = self.ballots[key]
        if who not in ballot.members:
            return "unknown_validator"
        if who in ballot.votes:
            return None if ballot.votes[who] == approve else "changed_vote"
        if ballot.status != "pending":
            return "record_final"
        ballot.votes[who] = approve
        return None

    def compare(self, found: Any, key: tuple[int, int], expected: str | None) -> None:
        if expected is not None:
            assert found == expected
            return
        assert isinstance(found, QuorumDecision)
        ballot = self.ballots[key]
        assert (found.height, found.attempt) == key
        assert (found.status, found.approvals) == (ballot.status, sum(ballot.votes.values()))
        newly = ballot.status == "committed" and ballot.head.height > self.floor
        assert found.publish == (ballot.head if newly else None)
        if newly:
            self.floor = ballot.head.height
            self.waiting = ballot.head
            self.given_out.append(self.floor)

    @rule(height=HEIGHTS, variant=VARIANTS, who=NAMES)
    def propose(self, height: int, variant: str, who: ValidatorId) -> None:
        proposed = head(height, variant)
        found = self.called(self.quorum.propose_head, proposed, who, TimeMs(1))
        if who not in self.members:
            assert found == "unknown_validator"
            return
        if height <= self.floor:
            assert found == "stale_height"
            return
        last = self.last(height)
        if last is not None and last[1].status == "pending":
            same = last[1].head == proposed
            self.compare(found, last[0], self.count(last[0], who, True) if same else "conflicting_head")
            return
        kept = self.kept()
        decided = sorted(key for key, ballot in kept.items() if ballot.status != "pending")
        if len(kept) >= LIMIT and not decided:
            assert found == "too_many_records"
            return
        if len(kept) >= LIMIT:
            self.ballots[decided[0]].pruned = True
        assert isinstance(found, QuorumDecision)
        key = (height, found.attempt)
        assert key not in self.ballots, "a number of an attempt is never used twice"
        self.ballots[key] = Ballot(proposed, len(self.members), self.threshold, frozenset(self.members), {who: True})
        self.compare(found, key, None)

    @precondition(lambda self: self.ballots)
    @rule(data=st.data(), who=NAMES, approve=st.booleans())
    def vote(self, data: st.DataObject, who: ValidatorId, approve: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.ballots)))
        ballot = self.ballots[key]
        found = self.called(
            self.quorum.vote_head, W, key[0], ballot.head.block_hash, vote(who, approve), attempt=key[1]
        )
        self.compare(found, key, "unknown_record" if ballot.pruned else self.count(key, who, approve))

    @precondition(lambda self: any(ballot.status == "pending" for ballot in self.ballots.values()))
    @rule(data=st.data(), approve=st.booleans())
    def decide(self, data: st.DataObject, approve: bool) -> None:
        """Everybody who has not voted says the same: single votes seldom come to an end."""
        pending = sorted(key for key, ballot in self.ballots.items() if ballot.status == "pending")
        key = data.draw(st.sampled_from(pending))
        ballot = self.ballots[key]
        for who in sorted(ballot.members - ballot.votes.keys()):
            said = vote(ValidatorId(who), approve)
            found = self.called(self.quorum.vote_head, W, key[0], ballot.head.block_hash, said, attempt=key[1])
            self.compare(found, key, self.count(key, who, approve))

    @rule(
        change=st.builds(AddValidator, NAMES)
        | st.builds(RemoveValidator, NAMES)
        | st.builds(ReplaceValidators, st.lists(NAMES, max_size=4).map(tuple), st.integers(0, 4))
    )
    def change(self, change: QuorumChange) -> None:
        found = self.called(self.quorum.apply_change, change)
        if any(ballot.status == "pending" for ballot in self.kept().values()):
            assert found == "record_pending"
            return
        if isinstance(change, ReplaceValidators):
            members, threshold = set(change.validators), change.quorum_threshold or len(set(change.validators)) // 2 + 1
        elif isinstance(change, RemoveValidator) and change.validator_id not in self.members:
            assert found == "unknown_validator"
            return
        else:
            one = {str(change.validator_id)}
            members = self.members | one if isinstance(change, AddValidator) else self.members - one
            threshold = min(len(members), max(self.threshold, len(members) // 2 + 1))
        if not len(members) // 2 < threshold <= len(members):
            assert found == "invalid_set"
            return
        assert found.applied is ((members, threshold) != (self.members, self.threshold))
        assert (set(found.validators), found.quorum_threshold) == (members, threshold)
        self.members, self.threshold = {str(member) for member in members}, threshold

    @precondition(lambda self: self.given_out)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        height = data.draw(st.sampled_from(self.given_out))
        published = next(
            ballot.head for key, ballot in self.ballots.items() if key[0] == height and ballot.status == "committed"
        )
        waited = self.waiting == published
        assert self.quorum.confirm_published(published) is waited
        self.published = max(self.published, height)
        self.waiting = None if waited else self.waiting

    @rule()
    def save_and_load(self) -> None:
        data = quorum_snapshot.to_bytes(self.quorum.state())
        self.quorum = QuorumConsensus.restored(quorum_snapshot.from_bytes(data))
        assert quorum_snapshot.to_bytes(self.quorum.state()) == data

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.quorum.committed_floor(W) == self.floor
        assert self.quorum.published_height(W) == self.published
        assert self.quorum.unpublished() == (() if self.waiting is None else (self.waiting,))
        assert self.given_out == sorted(set(self.given_out)), "what is published only grows"
        for key, ballot in self.ballots.items():
            found = self.quorum.decision(W, key[0], attempt=key[1])
            assert (found is None) is ballot.pruned
            assert found is None or found.status == ballot.status


TestQuorumMachine = QuorumMachine.TestCase
TestQuorumMachine.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
