"""The checkers can fail: with a rule broken on purpose, some seed reports what the rule is there to prevent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import pytest

from agent_world.consensus import engine, guard, height, messages, restore, rounds, stake, validators
from agent_world.consensus.context import HeightContext
from agent_world.consensus.guard_records import SignRequest
from agent_world.testing.cluster import simulate
from agent_world.testing.sim_disk import Disk
from agent_world.testing.sim_node import SimNode
from agent_world.testing.toy_world import ToyWorld
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.ids import Hash32, ValidatorId
from agent_world.wire.limits import HEADER_BYTES_MAX
from agent_world.wire.signed import Signed

ADVERSARIAL = range(10, 101, 10)
"""Of the first hundred seeds those with the adversarial schedule (D8)."""
ORDINARY = range(1, 41)


def first_violations(seeds: Iterable[int]) -> set[str]:
    """Invariants violated by the first seed that violates any."""
    for seed in seeds:
        found = {violation.invariant for violation in simulate(seed).violations}
        if found:
            return found
    return set()


def ignore_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(height.HeightRun, "_lock_allows", lambda *_: True)


def blind_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_check_same_height", lambda *_: None)


def test_no_honest_engine_asks_its_guard_for_a_contradiction() -> None:
    assert not any(simulate(seed).counters.get("not_safe", 0) for seed in list(ADVERSARIAL)[:4])


def test_an_engine_that_ignores_its_lock_forks_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    ignore_lock(monkeypatch)
    blind_guard(monkeypatch)
    assert first_violations(ADVERSARIAL) & {"I1", "I4"}


def test_the_guard_alone_keeps_such_an_engine_from_forking(monkeypatch: pytest.MonkeyPatch) -> None:
    ignore_lock(monkeypatch)
    found = [violation.invariant for seed in ADVERSARIAL for violation in simulate(seed).violations]
    assert set(found) == {"I12"}  # it asked for what contradicts its lock, and was refused


def test_an_engine_that_believes_any_valid_round_forks_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: height.HeightRun) -> bool:
        heard = self.book.at(self.round).proposal
        if self.step is not Step.PROPOSE or heard is None:
            return False
        valid_round = heard.proposal.valid_round
        allowed = self._lock_allows(heard.block_hash, valid_round)
        judged = self._is_valid(heard.block_hash, fresh=valid_round is None)
        if judged is None:
            return False
        self._prevote(heard.block_hash if judged and allowed else None, valid_round)
        return True

    monkeypatch.setattr(height.HeightRun, "_prevote_proposal", careless)
    assert first_violations(ADVERSARIAL)


def test_half_the_stake_is_no_quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validators, "required_stake", lambda total, *_: total // 2 + 1)
    assert first_violations(ADVERSARIAL) & {"I1", "I4"}


def test_a_guard_that_forgets_signs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def start_afresh(self: Disk) -> guard.GuardState:
        self.guard_database, self.guard_twin = [], []
        return guard.GuardState()

    monkeypatch.setattr(Disk, "load_guard", start_afresh)
    found: set[str] = set()
    for seed in ORDINARY:
        found |= {violation.invariant for violation in simulate(seed).violations}
        if {"I3", "I8"} <= found:
            return
    raise AssertionError(found)


def test_signing_what_was_not_judged_commits_blocks_that_do_not_execute(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(self: height.HeightRun, block_hash: Hash32, *, fresh: bool) -> bool | None:
        return True if block_hash in self.book.blocks else None

    monkeypatch.setattr(height.HeightRun, "_is_valid", trusting)
    assert "I7" in first_violations(ORDINARY)


def test_a_restart_that_restores_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "restore", lambda *_: None)
    assert first_violations(ORDINARY)


def test_a_guard_that_allows_everything_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def allow(_state: guard.GuardState, request: SignRequest) -> guard.Permit:
        return guard.Permit(request, None, guard._MADE_HERE)

    def never_lock(self: height.HeightRun, choice: Hash32 | None) -> None:
        self.lock = self.valid = None
        self.step = Step.PRECOMMIT
        self._sign(self._vote_body(Step.PRECOMMIT, choice), Step.PRECOMMIT, choice)

    monkeypatch.setattr(guard, "check", allow)
    monkeypatch.setattr(height.HeightRun, "_precommit", never_lock)
    assert first_violations(ADVERSARIAL)


def test_signing_without_the_guard_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unguarded(self: SimNode, request: SignRequest) -> bytes:
        assert self.own is not None
        permit = guard.Permit(request, None, guard._MADE_HERE)
        world = self.around.world
        signed = guard.sign_with_permit(permit, world.genesis_hash, world.keys[self.own])
        if self.is_honest:
            self.around.checker.signed(self.name, signed)
        return signed

    monkeypatch.setattr(SimNode, "sign", unguarded)
    assert "I3" in first_violations(ADVERSARIAL)


def test_a_guard_restored_without_its_lock_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_lock(run: height.HeightRun, state: guard.GuardState, now_ms: int) -> None:
        restore.restore(run, attrs.evolve(state, lock=None), now_ms)

    monkeypatch.setattr(engine, "restore", without_lock)
    assert first_violations(ADVERSARIAL) == {"I12"}
    blind_guard(monkeypatch)
    assert first_violations(ADVERSARIAL) & {"I1", "I4"}


def test_an_unsigned_vote_that_counts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(simulate(seed).counters.get("refused.V6", 0) for seed in list(ADVERSARIAL)[:1]) > 0
    monkeypatch.setattr(messages, "is_valid", lambda *_: True)
    assert "I2" in first_violations(ADVERSARIAL)


class SetsBySlot:
    """The broken rule: a round whose slot lies in the next epoch belongs to the next set, whatever the parent says."""

    def __init__(self) -> None:
        self.sets: dict[Hash32, validators.ValidatorSet] = {}
        self.contexts: dict[Hash32, HeightContext] = {}

    def note(self, world: ToyWorld, context: HeightContext) -> HeightContext:
        self.sets.update({validator_set.hash: validator_set for validator_set in world.sets})
        return self.contexts.setdefault(context.parent_hash, context)

    def of_round(self, context: HeightContext, round_: int) -> HeightContext:
        parents = self.contexts[context.parent_hash]
        if stake.slot_epoch(parents.epoch_length_slots, parents.slot(round_)) == parents.epoch:
            return parents
        return attrs.evolve(parents, validators=self.sets[parents.next_validators_hash])

    def of_block(self, proposal: Proposal, context: HeightContext) -> HeightContext:
        return self.of_round(context, record.from_bytes(WorldBlock, proposal.block, size_max=HEADER_BYTES_MAX).round)


def take_sets_from_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every place where a round meets a set: the draw, the block, both messages, the tally, the own vote."""
    by_slot = SetsBySlot()
    context_after, build = ToyWorld.context_after, ToyWorld.build
    made, sign, check = height.HeightRun.__init__, height.HeightRun._sign, messages.check_proposal
    on_vote, on_proposal = messages._check_vote, messages._check_proposal_message

    class Book(rounds.RoundBook):
        context: HeightContext

        def at(self, round_: int) -> rounds.Round:
            if round_ not in self.rounds:
                self.rounds[round_] = rounds.Round(by_slot.of_round(self.context, round_).validators)
            return self.rounds[round_]

    def begin(self: height.HeightRun, config: Any, context: HeightContext, *rest: Any) -> None:
        made(self, config, context, *rest)
        self.book = Book(context.validators)
        self.book.context = context

    def sign_if_seated(self: height.HeightRun, *arguments: Any, **options: Any) -> None:
        seats = by_slot.of_round(self.context, self.round).validators
        if self.own is None or seats.by_key(self.own.public_key) is not None:
            sign(self, *arguments, **options)

    def drawn(self: HeightContext, round_: int) -> ValidatorId:
        return by_slot.of_round(self, round_).validators.proposer(self.parent_slot, round_)

    def build_for(self: ToyWorld, context: HeightContext, round_: int, *rest: Any, **options: Any) -> bytes:
        return build(self, by_slot.of_round(context, round_), round_, *rest, **options)

    def check_vote(data: bytes, signed: Signed, vote: Vote, context: HeightContext, *own: Any) -> Any:
        return on_vote(data, signed, vote, by_slot.of_round(context, vote.round), *own)

    def check_message(data: bytes, signed: Signed, body: Proposal, context: HeightContext, *own: Any) -> Any:
        return on_proposal(data, signed, body, by_slot.of_round(context, body.round), *own)

    def check_block(proposal: Proposal, context: HeightContext) -> WorldBlock:
        return check(proposal, by_slot.of_block(proposal, context))

    monkeypatch.setattr(ToyWorld, "context_after", lambda self, tip: by_slot.note(self, context_after(self, tip)))
    for where, name, broken in (
        (ToyWorld, "build", build_for), (HeightContext, "proposer", drawn), (height.HeightRun, "__init__", begin),
        (height.HeightRun, "_sign", sign_if_seated), (height, "check_proposal", check_block),
        (messages, "check_proposal", check_block), (messages, "_check_vote", check_vote),
        (messages, "_check_proposal_message", check_message),
    ):  # fmt: skip
        monkeypatch.setattr(where, name, broken)


def test_a_set_taken_from_the_rounds_slot_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    take_sets_from_slots(monkeypatch)
    assert "I2" in first_violations(ADVERSARIAL)
