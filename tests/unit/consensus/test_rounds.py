from __future__ import annotations

from one_engine import CONTEXT, KEYS, NAMES, block_of, others_of, proposal_bytes, proposer, vote_bytes

from agent_world.consensus.events import Drop, Dropped, Effect, EvidenceFound
from agent_world.consensus.messages import VerifiedProposal, VerifiedVote, open_proposal, open_vote
from agent_world.consensus.rounds import (
    BLOCKS_PER_HEIGHT_MAX,
    FUTURE_ROUNDS_PER_VALIDATOR_MAX,
    ROUNDS_BACK_MAX,
    RoundBook,
)
from agent_world.crypto.hashing import hash32
from agent_world.wire.consensus import Step
from agent_world.wire.ids import Hash32, ValidatorId

X, Y = (hash32(block_of(0, action)) for action in (1, 2))


def vote(who: ValidatorId, round_: int, choice: Hash32 | None = None, step: Step = Step.PREVOTE) -> VerifiedVote:
    return open_vote(vote_bytes(who, step, round_, choice), CONTEXT)


def proposal(round_: int, action: int = 1, valid_round: int | None = None) -> VerifiedProposal:
    block = block_of(round_ if valid_round is None else 0, action)
    return open_proposal(proposal_bytes(round_, block, action=action, valid_round=valid_round), CONTEXT)


def book() -> RoundBook:
    return RoundBook(CONTEXT.validators)


def reasons(effects: tuple[Effect, ...]) -> list[Drop]:
    return [effect.reason for effect in effects if isinstance(effect, Dropped)]


def test_two_votes_of_one_place_are_evidence_once() -> None:
    rounds = book()
    first, second = vote(NAMES[0], 0), vote(NAMES[0], 0, X)
    assert rounds.add_vote(first) == ()
    assert rounds.add_vote(first) == (Dropped(Drop.DUPLICATE),)
    effects = rounds.add_vote(second)
    assert effects == (Dropped(Drop.CONFLICTING, NAMES[0]), EvidenceFound(first.data, second.data))
    assert reasons(rounds.add_vote(second)) == [Drop.CONFLICTING]
    assert rounds.add_vote(vote(NAMES[0], 0, X, Step.PRECOMMIT)) == ()
    assert rounds.add_vote(vote(NAMES[0], 1, X)) == ()


def test_two_proposals_of_one_round_are_evidence_and_both_blocks_are_known() -> None:
    rounds = book()
    first, second, third = proposal(0, 1), proposal(0, 2), proposal(0, 3)
    assert rounds.add_proposal(first, ()) == ()
    assert rounds.add_proposal(first, ()) == (Dropped(Drop.DUPLICATE),)
    assert rounds.add_proposal(second, ()) == (EvidenceFound(first.data, second.data),)
    assert reasons(rounds.add_proposal(third, ())) == [Drop.CONFLICTING]
    assert rounds.at(0).proposal == first
    assert set(rounds.blocks) == {first.block_hash, second.block_hash}


def test_the_conflicting_vote_counts_once_the_block_is_known() -> None:
    rounds = book()
    rounds.add_vote(vote(NAMES[0], 0))
    rounds.add_proposal(proposal(0), ())
    effects = rounds.add_vote(vote(NAMES[0], 0, X))
    assert [type(effect) for effect in effects] == [EvidenceFound]
    assert rounds.at(0).prevotes.stake_for(X) == 1


def test_skipping_takes_stake_that_cannot_be_all_faulty() -> None:
    rounds = book()
    rounds.add_vote(vote(NAMES[0], 9))
    assert rounds.skip_target() is None
    rounds.add_vote(vote(NAMES[0], 9, step=Step.PRECOMMIT))
    assert rounds.skip_target() is None, "one validator twice is still one"
    rounds.add_vote(vote(NAMES[1], 6))
    assert rounds.skip_target() == 6, "both are in round 6 or later"
    rounds.move_to(6, ())
    assert rounds.skip_target() is None
    rounds.add_vote(vote(NAMES[2], 7))
    assert rounds.skip_target() == 7
    assert rounds.stake_heard() == 3


def test_future_rounds_of_one_validator_are_bounded() -> None:
    rounds = book()
    numbers = range(1, 50)
    dropped = [reasons(rounds.add_vote(vote(NAMES[0], number * 1_000))) for number in numbers]
    assert sum(map(len, dropped)) == len(numbers) - FUTURE_ROUNDS_PER_VALIDATOR_MAX
    assert sorted(rounds.rounds) == [number * 1_000 for number in numbers[-FUTURE_ROUNDS_PER_VALIDATOR_MAX:]]


def test_another_validators_messages_are_not_forgotten_with_them() -> None:
    rounds = book()
    rounds.add_vote(vote(NAMES[1], 1))
    for number in range(1, 20):
        rounds.add_vote(vote(NAMES[0], number))
    assert rounds.at(1).prevotes.first_of(KEYS[NAMES[1]].public_key)
    assert rounds.at(1).prevotes.stake == 1


def test_a_forgotten_proposal_can_come_again() -> None:
    rounds = book()
    who = proposer(1)
    ahead = [number for number in range(1, 60) if proposer(number) == who][: FUTURE_ROUNDS_PER_VALIDATOR_MAX + 1]
    for number in ahead:
        rounds.add_proposal(proposal(number), ())
    assert 1 not in rounds.rounds
    rounds.move_to(1, ())
    assert rounds.add_proposal(proposal(1), ()) == ()


def test_rounds_far_back_are_forgotten_unless_pinned() -> None:
    rounds = book()
    for number in (0, 1, 2):
        rounds.move_to(number, ())
        rounds.add_vote(vote(NAMES[0], number))
    rounds.move_to(ROUNDS_BACK_MAX + 3, (1,))
    assert sorted(rounds.rounds) == [1]
    assert reasons(rounds.add_vote(vote(NAMES[1], 0))) == [Drop.ROUND_TOO_OLD]
    assert rounds.add_vote(vote(NAMES[1], 3)) == ()


def test_an_old_round_is_heard_again_if_the_proposal_refers_to_it() -> None:
    rounds = book()
    now = ROUNDS_BACK_MAX + 10
    rounds.move_to(now, ())
    rounds.add_proposal(proposal(now, valid_round=2), ())
    assert rounds.add_vote(vote(NAMES[1], 2, X)) == ()
    assert reasons(rounds.add_vote(vote(NAMES[1], 3, X))) == [Drop.ROUND_TOO_OLD]


def test_blocks_are_bounded_and_those_in_use_stay() -> None:
    rounds = book()
    first = proposal(0)
    rounds.add_proposal(first, ())
    effects: list[Effect] = []
    for number in range(1, BLOCKS_PER_HEIGHT_MAX + 5):
        rounds.move_to(number, ())
        effects += rounds.add_proposal(proposal(number), {first.block_hash})
    assert len(rounds.blocks) == BLOCKS_PER_HEIGHT_MAX
    assert first.block_hash in rounds.blocks
    assert reasons(tuple(effects)) == [Drop.BLOCKS_FULL] * 5


def test_everybodys_messages_make_one_round() -> None:
    rounds = book()
    for name in others_of(NAMES[0]):
        rounds.add_vote(vote(name, 2, Y))
    found = rounds.prevotes(2)
    assert found is not None
    assert found.quorum is not None
    assert found.quorum.choice == Y
    assert rounds.prevotes(3) is None
