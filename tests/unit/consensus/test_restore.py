from __future__ import annotations

import attrs
import pytest
from one_engine import (
    CONFIG,
    CONTEXT,
    NAMES,
    OneEngine,
    actions_of,
    block_of,
    others_of,
    proposal_bytes,
    proposer,
)

from agent_world.consensus.events import BlockBuilt, Broadcast, BuildBlock, Commit, Drop, JudgeBlock, StartHeight
from agent_world.consensus.guard import GuardState, records_of, state_of
from agent_world.crypto.hashing import hash32
from agent_world.wire.consensus import Step
from agent_world.wire.ids import ValidatorId

X = block_of(0)
HX = hash32(X)
PREVOTE, PRECOMMIT = Step.PREVOTE, Step.PRECOMMIT


def restarted(one: OneEngine) -> OneEngine:
    """A new process with what the guard's files hold."""
    again = OneEngine(one.own, CONFIG)
    again.now_ms = one.now_ms
    return again.start(state_of(records_of(one.state)))


def follower() -> ValidatorId:
    """Proposes in none of the first three rounds."""
    return next(name for name in NAMES if name not in {proposer(round_) for round_ in range(3)})


def test_stored_bytes_are_sent_again_and_nothing_is_signed_anew() -> None:
    one = OneEngine(follower()).begin().hear(proposal_bytes(0, X))
    again = restarted(one)
    assert again.sent() == one.sent()
    assert again.votes() == []
    assert again.run.step is PREVOTE
    again.hear(proposal_bytes(0, block_of(0, 2), action=2))
    again.tick(10_000)
    assert (PREVOTE, 0) not in {vote[:2] for vote in again.votes()}


@pytest.mark.parametrize("round_", [0, 1])
def test_lock_and_valid_value_come_back(round_: int) -> None:
    own = follower()
    one = OneEngine(own).begin().hear(proposal_bytes(0, X))
    one.hear_votes(PREVOTE, 0, HX, others_of(own))
    if round_:
        one.hear_votes(PRECOMMIT, 0, None, others_of(own)).tick(CONFIG.propose_timeout_ms + CONFIG.timeout_delta_ms)
        assert one.votes()[-1] == (PREVOTE, 1, None)
    again = restarted(one)
    assert (again.run.round, again.run.lock, again.run.valid) == (round_, one.run.lock, one.run.valid)
    again.hear_votes(PRECOMMIT, round_, None, others_of(own))
    again.hear(proposal_bytes(round_ + 1, block_of(round_ + 1, 5), action=5))
    assert again.votes()[-1] == (PREVOTE, round_ + 1, None), "still locked"


def test_the_valid_value_can_be_proposed_again_and_its_proof_is_still_there() -> None:
    own = proposer(1)
    one = OneEngine(own).begin().hear(proposal_bytes(0, X)).hear_votes(PREVOTE, 0, HX, others_of(own))
    again = restarted(one)
    assert again.all(JudgeBlock) == [], "nothing hangs on a verdict yet"
    again.hear_votes(PRECOMMIT, 0, None, others_of(own))
    (proposal,) = again.proposals()
    assert (proposal.valid_round, proposal.block) == (0, X)
    assert set(again.run.valid.proof) <= set(again.sent()) | {again.run.signed.get((0, PREVOTE))}
    assert again.votes()[-1] == (PREVOTE, 1, HX), "the stored prevotes justify it here too"


def test_a_proposer_does_not_build_a_second_block() -> None:
    one = OneEngine(proposer(0)).begin().feed(BlockBuilt(1, 0, X, actions_of()))
    again = restarted(one)
    assert again.all(BuildBlock) == []
    assert again.run.book.blocks
    assert Drop.OWN_INVALID not in again.drops()


def test_a_decision_that_was_not_committed_is_made_again() -> None:
    own = follower()
    one = OneEngine(own).begin().hear(proposal_bytes(0, X))
    one.hear_votes(PREVOTE, 0, HX, others_of(own)).hear_votes(PRECOMMIT, 0, HX, others_of(own))
    assert len(one.all(Commit)) == 1
    again = restarted(one)
    assert again.all(Commit) == []
    again.hear_votes(PRECOMMIT, 0, HX, others_of(own))
    assert [commit.block for commit in again.all(Commit)] == [X]


def test_an_echo_of_the_stored_messages_is_no_sign_of_a_second_process() -> None:
    one = OneEngine(follower()).begin().hear(proposal_bytes(0, X))
    again = restarted(one).hear(*one.sent())
    assert again.drops() == [Drop.DUPLICATE]
    assert again.run.own is not None


def test_another_height_starts_afresh() -> None:
    one = OneEngine(follower()).begin().hear(proposal_bytes(0, X))
    higher = OneEngine(one.own)
    higher.context = attrs.evolve(CONTEXT, height=2, parent_hash=HX, parent_slot=1)
    higher.start(one.state)
    assert higher.run.lock is None
    assert higher.sent() == []
    assert not higher.run.started


def test_up_to_the_sign_floor_the_node_only_watches() -> None:
    one = OneEngine(follower()).begin().hear(proposal_bytes(0, X))
    damaged = attrs.evolve(one.state, sign_floor=1)
    again = OneEngine(one.own).start(damaged).tick(200)
    assert again.run.own is None
    again.hear(proposal_bytes(0, X)).hear_votes(PREVOTE, 0, HX, others_of(follower()))
    again.tick(10_000)
    assert again.votes() == []
    again.hear_votes(PRECOMMIT, 0, HX, others_of(follower()))
    assert len(again.all(Commit)) == 1


def test_stored_bytes_that_do_not_fit_are_dropped_but_their_place_stays_taken() -> None:
    one = OneEngine(follower()).begin().hear(proposal_bytes(0, X))
    broken = attrs.evolve(one.state, entries=(attrs.evolve(one.state.entries[0], signed=b"damaged"),))
    again = OneEngine(one.own).feed(StartHeight(CONTEXT, broken))
    assert again.drops() == [Drop.OWN_INVALID]
    assert again.all(Broadcast) == []
    again.tick(200).hear(proposal_bytes(0, block_of(0, 2), action=2)).tick(1_000)
    assert (PREVOTE, 0) not in {vote[:2] for vote in again.votes()}


def test_a_valid_value_with_a_wrong_hash_is_dropped() -> None:
    own = follower()
    one = OneEngine(own).begin().hear(proposal_bytes(0, X)).hear_votes(PREVOTE, 0, HX, others_of(own))
    assert one.state.valid is not None
    broken = attrs.evolve(one.state, valid=attrs.evolve(one.state.valid, block=block_of(0, 9)))
    again = OneEngine(own).feed(StartHeight(CONTEXT, broken))
    assert Drop.OWN_INVALID in again.drops()
    assert again.run.valid is None
    assert isinstance(broken, GuardState)
