"""How a height ends, one rule at a time. Four equal validators: three decide, two cannot both be faulty."""

from __future__ import annotations

from one_engine import (
    CONFIG,
    CONTEXT,
    NAMES,
    WORLD,
    OneEngine,
    actions_of,
    block_of,
    engine_of,
    in_round,
    locked,
    other_than_proposer_of,
    others,
    others_of,
    proposal_bytes,
    proposer,
    vote_bytes,
)

from agent_world.consensus.certificate import verify_certificate
from agent_world.consensus.events import (
    Broadcast,
    Commit,
    Drop,
    EvidenceFound,
    NeedBlock,
)
from agent_world.crypto.hashing import hash32
from agent_world.testing.toy_world import WORLD_ID
from agent_world.wire.consensus import Step

X, Y = block_of(0, 1), block_of(0, 2)
HX, HY = hash32(X), hash32(Y)
PREVOTE, PRECOMMIT, PROPOSE = Step.PREVOTE, Step.PRECOMMIT, Step.PROPOSE


# Deciding.


def test_precommits_of_the_required_stake_commit_with_a_certificate() -> None:
    one = locked()
    one.hear_votes(PRECOMMIT, 0, HX, others(one)[:1])
    assert one.all(Commit) == []
    one.hear_votes(PRECOMMIT, 0, HX, others(one)[1:2])
    (commit,) = one.all(Commit)
    assert (commit.height, commit.block_hash, commit.block, commit.actions) == (1, HX, X, actions_of())
    verify_certificate(commit.certificate, WORLD_ID, WORLD.genesis_hash, CONTEXT.validators, height=1, block_hash=HX)
    one.hear_votes(PRECOMMIT, 0, HX, others(one)[2:]).tick(10_000)
    assert len(one.all(Commit)) == 1
    assert len(one.votes()) == 2, "nothing is signed after the decision"


def test_a_commit_from_an_earlier_round() -> None:
    one = locked()
    liar, slow, late = others(one)
    one.hear_votes(PRECOMMIT, 0, None, [liar, slow]).tick(CONFIG.vote_timeout_ms)
    assert one.run.round == 1
    one.hear(vote_bytes(late, PRECOMMIT, 0, HX))
    assert one.all(Commit) == []
    one.hear(vote_bytes(liar, PRECOMMIT, 0, HX))
    assert len(one.all(Commit)) == 1


def test_a_commit_from_a_later_round() -> None:
    one = engine_of(False).begin().hear(proposal_bytes(0, X))
    one.hear_votes(PRECOMMIT, 3, HX, others(one))
    assert len(one.all(Commit)) == 1


def test_precommits_for_a_block_not_here_ask_for_it_and_its_proposal_commits() -> None:
    one = engine_of(False).begin().hear_votes(PRECOMMIT, 0, HX, others_of(proposer(0)))
    one.hear(vote_bytes(proposer(0), PRECOMMIT, 0, HX))
    (need,) = one.all(NeedBlock)
    assert need.block_hash == HX
    verify_certificate(need.certificate, WORLD_ID, WORLD.genesis_hash, CONTEXT.validators, height=1, block_hash=HX)
    one.hear(proposal_bytes(0, X))
    assert len(one.all(Commit)) == 1


def test_a_round_of_precommits_for_nil_ends_at_once_and_a_split_one_after_a_wait() -> None:
    at_once = engine_of(False).begin()
    at_once.hear_votes(PRECOMMIT, 0, None, others(at_once))
    assert at_once.run.round == 1
    split = locked()
    split.hear_votes(PRECOMMIT, 0, None, others(split)[:2]).tick(CONFIG.vote_timeout_ms - 1)
    assert split.run.round == 0
    assert split.tick(1).run.round == 1


def test_messages_of_a_later_round_pull_along() -> None:
    one = engine_of(False).begin()
    one.hear_votes(PREVOTE, 7, None, others(one)[:1])
    assert one.run.round == 0
    one.hear_votes(PRECOMMIT, 8, None, others(one)[1:2])
    assert one.run.round == 7


def test_an_equivocator_cannot_hide_a_quorum_from_a_node_it_lied_to_first() -> None:
    one = engine_of(False).begin().hear(proposal_bytes(0, X))
    liar, first, _ = others(one)
    one.hear(vote_bytes(liar, PREVOTE, 0, None), vote_bytes(first, PREVOTE, 0, HX))
    one.hear(vote_bytes(liar, PREVOTE, 0, HX))
    assert len(one.all(EvidenceFound)) == 1
    assert one.votes()[-1] == (PRECOMMIT, 0, HX)


def test_a_liars_other_vote_counts_when_it_comes_again_with_the_block() -> None:
    """The proof of a block proposed again may hold votes that were dropped before the block was known."""
    one = in_round(OneEngine(other_than_proposer_of(1)).begin(), 1)
    liar, first, second = others(one)
    proof = [vote_bytes(name, PREVOTE, 0, HX) for name in (liar, first, second)]
    one.hear(vote_bytes(liar, PREVOTE, 0, HY), *proof)
    assert Drop.CONFLICTING in one.drops()
    one.hear(proposal_bytes(1, X, valid_round=0))
    assert (PREVOTE, 1, HX) not in one.votes()
    one.hear(proof[0])
    assert one.votes()[-1] == (PREVOTE, 1, HX)


# Watching.


def test_a_node_that_is_no_validator_certifies_by_watching() -> None:
    one = OneEngine(None).begin().hear(proposal_bytes(0, X))
    one.hear_votes(PREVOTE, 0, HX, NAMES[:3]).hear_votes(PRECOMMIT, 0, HX, NAMES[:3])
    assert len(one.all(Commit)) == 1
    assert one.votes() == []
    assert one.all(Broadcast) == []
