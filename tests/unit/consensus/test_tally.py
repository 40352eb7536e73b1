from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from one_engine import CONTEXT, KEYS, NAMES, block_of, vote_bytes

from agent_world.consensus.messages import VerifiedVote, open_vote
from agent_world.consensus.tally import Added, Quorum, Tally
from agent_world.crypto.hashing import hash32
from agent_world.wire.consensus import Step
from agent_world.wire.ids import Hash32, ValidatorId

X, Y, Z = (hash32(block_of(0, action)) for action in (1, 2, 3))


def of(who: ValidatorId, choice: Hash32 | None) -> VerifiedVote:
    return open_vote(vote_bytes(who, Step.PREVOTE, 0, choice), CONTEXT)


def test_stake_adds_up_to_a_quorum() -> None:
    tally = Tally(CONTEXT.validators)
    assert tally.add(of(NAMES[0], X), block_known=True) is Added.COUNTED
    assert tally.add(of(NAMES[0], X), block_known=True) is Added.DUPLICATE
    assert tally.add(of(NAMES[1], X), block_known=True) is Added.COUNTED
    assert tally.add(of(NAMES[2], None), block_known=True) is Added.COUNTED
    assert (tally.stake, tally.stake_for(X), tally.stake_for(None), tally.quorum) == (3, 2, 1, None)
    tally.add(of(NAMES[3], X), block_known=True)
    assert tally.quorum == Quorum(X)
    assert [vote.validator.validator_id for vote in tally.votes_for(X)] == sorted(
        (NAMES[0], NAMES[1], NAMES[3]), key=lambda name: KEYS[name].public_key
    )


def test_a_quorum_for_nil_is_not_no_quorum() -> None:
    tally = Tally(CONTEXT.validators)
    for name in NAMES[:3]:
        tally.add(of(name, None), block_known=True)
    assert tally.quorum == Quorum(None)


def test_an_equivocator_counts_for_each_choice_but_once_in_all() -> None:
    tally = Tally(CONTEXT.validators)
    tally.add(of(NAMES[0], None), block_known=True)
    assert tally.add(of(NAMES[0], X), block_known=True) is Added.COUNTED_TWICE
    assert (tally.stake, tally.stake_for(None), tally.stake_for(X)) == (1, 1, 1)
    first = tally.first_of(KEYS[NAMES[0]].public_key)
    assert first is not None
    assert first.vote.block_hash is None


def test_a_second_vote_for_an_unknown_block_is_not_kept() -> None:
    tally = Tally(CONTEXT.validators)
    assert tally.add(of(NAMES[0], Y), block_known=False) is Added.COUNTED
    assert tally.add(of(NAMES[0], Z), block_known=False) is Added.CONFLICTING
    assert tally.stake_for(Z) == 0
    assert len(tally.all_votes()) == 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([X, Y, None])), max_size=20))
def test_removing_undoes_adding(votes: list[tuple[ValidatorId, Hash32 | None]]) -> None:
    tally, without = Tally(CONTEXT.validators), Tally(CONTEXT.validators)
    for who, choice in votes:
        tally.add(of(who, choice), block_known=True)
        if who != NAMES[0]:
            without.add(of(who, choice), block_known=True)
    tally.remove(KEYS[NAMES[0]].public_key)
    assert tally.all_votes() == without.all_votes()
    assert [tally.stake_for(choice) for choice in (X, Y, None)] == [without.stake_for(c) for c in (X, Y, None)]
    assert tally.stake == without.stake
