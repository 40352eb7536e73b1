"""The rules of one height, one by one. Four equal validators: three decide, two cannot both be faulty."""

from __future__ import annotations

import attrs
from one_engine import (
    CONFIG,
    KEYS,
    OneEngine,
    actions_of,
    block_of,
    engine_of,
    in_round,
    locked,
    other_than_proposer_of,
    others,
    proposal_bytes,
    proposer,
)

from agent_world.consensus.events import (
    BlockBuilt,
    BlockJudged,
    BuildBlock,
    Drop,
    EvidenceFound,
    JudgeBlock,
    LinkChanged,
    Sign,
)
from agent_world.crypto.hashing import hash32
from agent_world.wire.consensus import Step

X, Y = block_of(0, 1), block_of(0, 2)
HX, HY = hash32(X), hash32(Y)
PREVOTE, PRECOMMIT, PROPOSE = Step.PREVOTE, Step.PRECOMMIT, Step.PROPOSE


# Proposing.


def test_the_proposer_builds_and_proposes() -> None:
    one = engine_of(True).begin()
    assert one.all(BuildBlock) == [BuildBlock(1, 0, 1)]
    one.feed(BlockBuilt(1, 0, X, actions_of()))
    (proposal,) = one.proposals()
    assert (proposal.block, proposal.valid_round, proposal.actions) == (X, None, actions_of())
    assert one.votes() == [(PREVOTE, 0, HX)]
    assert one.all(JudgeBlock) == [], "its builder has executed it"


def test_others_do_not_build() -> None:
    assert engine_of(False).begin().all(BuildBlock) == []


def test_a_block_built_too_late_is_not_proposed() -> None:
    one = engine_of(True).begin().tick(CONFIG.propose_timeout_ms)
    one.feed(BlockBuilt(1, 0, X, actions_of()))
    assert one.proposals() == []
    assert Drop.LATE_BLOCK in one.drops()


def test_an_own_block_that_breaks_a_rule_is_not_signed() -> None:
    one = engine_of(True).begin().feed(BlockBuilt(1, 0, block_of(1), actions_of()))
    assert one.proposals() == []
    assert Drop.BUILT_INVALID in one.drops()


def test_the_valid_value_is_proposed_again_byte_for_byte_with_its_proof() -> None:
    one = OneEngine(proposer(1)).begin().hear(proposal_bytes(0, X))
    one.hear_votes(PREVOTE, 0, HX, others(one))
    in_round(one, 1)
    (proposal,) = one.proposals()
    assert (proposal.round, proposal.valid_round, proposal.block) == (1, 0, X)
    assert one.all(BuildBlock) == []
    assert len(one.run.valid.proof) == 3
    assert set(one.run.valid.proof) <= set(one.sent())
    assert one.votes()[-1] == (PREVOTE, 1, HX)


def test_a_valid_value_learnt_while_building_goes_first() -> None:
    one = OneEngine(proposer(1)).begin().hear(proposal_bytes(0, X))
    in_round(one, 1)
    assert one.all(BuildBlock) == [BuildBlock(1, 1, 2)]
    one.hear_votes(PREVOTE, 0, HX, others(one))
    one.feed(BlockBuilt(1, 1, block_of(1, 7), actions_of(7)))
    (proposal,) = one.proposals()
    assert (proposal.block, proposal.valid_round) == (X, 0)


# Prevoting.


def test_a_valid_proposal_is_prevoted() -> None:
    one = engine_of(False).begin().hear(proposal_bytes(0, X))
    assert one.all(JudgeBlock) == [JudgeBlock(1, HX, X, actions_of(), fresh=True)]
    assert one.votes() == [(PREVOTE, 0, HX)]


def test_an_invalid_one_gets_nil() -> None:
    one = engine_of(False).begin()
    one.verdicts[HX] = False
    assert one.hear(proposal_bytes(0, X)).votes() == [(PREVOTE, 0, None)]


def test_no_vote_before_the_verdict_and_nil_after_the_timeout() -> None:
    one = engine_of(False).begin()
    one.answering = False
    assert one.hear(proposal_bytes(0, X)).votes() == []
    one.tick(CONFIG.propose_timeout_ms)
    assert one.votes() == [(PREVOTE, 0, None)]
    one.feed(BlockJudged(1, HX, True))
    assert one.votes() == [(PREVOTE, 0, None)], "one prevote a round"


def test_a_block_that_cannot_be_judged_now_is_asked_about_again() -> None:
    one = engine_of(False, config=attrs.evolve(CONFIG, rebroadcast_ms=100)).begin()
    one.verdicts[HX] = None
    one.hear(proposal_bytes(0, X))
    assert len(one.all(JudgeBlock)) == 1
    one.verdicts[HX] = True
    one.tick(100)
    assert one.votes() == [(PREVOTE, 0, HX)]


def test_a_silent_proposer_gets_nil_after_the_timeout_that_grows() -> None:
    one = OneEngine(other_than_proposer_of(0, 1)).begin().tick(CONFIG.propose_timeout_ms - 1)
    assert one.votes() == []
    one.tick(1)
    assert one.votes() == [(PREVOTE, 0, None)]
    in_round(one, 1)
    before = one.now_ms
    while len(one.votes()) < 2:
        one.tick(1)
    assert one.now_ms - before == CONFIG.propose_timeout_ms + CONFIG.timeout_delta_ms


def test_a_proposer_whose_link_has_ended_is_waited_for_less() -> None:
    one = OneEngine(other_than_proposer_of(0, 1)).begin().tick(10)
    one.feed(LinkChanged(KEYS[proposer(0)].public_key, is_linked=False)).tick(CONFIG.gone_timeout_ms - 1)
    assert one.votes() == []
    one.tick(1)
    assert one.votes() == [(PREVOTE, 0, None)]


def test_the_link_of_another_changes_nothing_in_this_round() -> None:
    bystander = other_than_proposer_of(0, 1)
    one = OneEngine(proposer(1)).begin().feed(LinkChanged(KEYS[bystander].public_key, is_linked=False))
    one.tick(CONFIG.propose_timeout_ms - 1)
    assert one.votes() == []


def test_links_that_come_and_go_never_lengthen_a_round() -> None:
    one = OneEngine(other_than_proposer_of(0, 1)).begin()
    key = KEYS[proposer(0)].public_key
    for _ in range(CONFIG.propose_timeout_ms // 50):
        one.feed(LinkChanged(key, is_linked=True)).feed(LinkChanged(key, is_linked=False)).tick(50)
    assert one.votes() == [(PREVOTE, 0, None)]


def test_a_proposer_that_went_before_the_round_is_waited_for_less_and_more_in_later_rounds() -> None:
    one = OneEngine(other_than_proposer_of(0, 1)).start()
    one.feed(LinkChanged(KEYS[proposer(0)].public_key, is_linked=False))
    one.feed(LinkChanged(KEYS[proposer(1)].public_key, is_linked=False))
    one.tick(CONFIG.empty_block_interval_ms + CONFIG.gone_timeout_ms)
    assert one.votes() == [(PREVOTE, 0, None)]
    in_round(one, 1)
    one.tick(CONFIG.gone_timeout_ms + CONFIG.timeout_delta_ms - 1)
    assert len(one.votes()) == 1
    one.tick(1)
    assert one.votes()[1:] == [(PREVOTE, 1, None)]


def test_a_proposer_that_is_linked_again_has_the_full_time() -> None:
    one = OneEngine(other_than_proposer_of(0, 1))
    key = KEYS[proposer(0)].public_key
    one.feed(LinkChanged(key, is_linked=False)).feed(LinkChanged(key, is_linked=True))
    one.begin().tick(CONFIG.propose_timeout_ms - 1)
    assert one.votes() == []


def test_a_gone_proposer_that_is_heard_at_a_later_height_has_the_full_time() -> None:
    for height_it_went, wait_ms in ((0, CONFIG.propose_timeout_ms), (1, CONFIG.gone_timeout_ms)):
        gone = LinkChanged(KEYS[proposer(0)].public_key, is_linked=False)
        one = OneEngine(other_than_proposer_of(0, 1))
        if height_it_went == 0:
            one.feed(gone).start()
        else:
            one.start().feed(gone)
        one.hear_votes(PREVOTE, 0, None, [proposer(0)]).tick(CONFIG.block_interval_ms + wait_ms - 1)
        assert one.votes() == []
        one.tick(1)
        assert one.votes() == [(PREVOTE, 0, None)]


def test_only_the_first_of_two_proposals_is_voted_on() -> None:
    one = engine_of(False).begin().hear(proposal_bytes(0, X), proposal_bytes(0, Y, action=2))
    assert one.votes() == [(PREVOTE, 0, HX)]
    assert len(one.all(EvidenceFound)) == 1


def locked_watching(*rounds: int) -> OneEngine:
    """Locked on X in round 0; proposes in none of these rounds."""
    one = OneEngine(other_than_proposer_of(0, *rounds)).begin().hear(proposal_bytes(0, X))
    one.hear_votes(PREVOTE, 0, HX, others(one))
    assert one.votes() == [(PREVOTE, 0, HX), (PRECOMMIT, 0, HX)]
    return one


def test_a_lock_refuses_a_fresh_block() -> None:
    one = in_round(locked_watching(1), 1)
    one.hear(proposal_bytes(1, block_of(1, 5), action=5))
    assert one.votes()[-1] == (PREVOTE, 1, None)
    assert one.run.lock.block_hash == HX


def test_a_lock_takes_its_own_block_again() -> None:
    one = in_round(locked_watching(1), 1)
    one.hear(proposal_bytes(1, X, valid_round=0))
    assert one.votes()[-1] == (PREVOTE, 1, HX)


def test_a_lock_gives_way_to_prevotes_of_a_later_round() -> None:
    one = in_round(locked_watching(1, 2), 2)
    fresh = block_of(1, 5)
    one.hear(proposal_bytes(2, fresh, action=5, valid_round=1))
    assert one.votes()[-1][1] < 2, "no vote before the prevotes of round 1 are here"
    one.hear_votes(PREVOTE, 1, hash32(fresh), others(one)[:2])
    assert one.votes()[-1][1] < 2, "two are not enough"
    one.hear_votes(PREVOTE, 1, hash32(fresh), others(one)[2:])
    assert one.votes()[-1] == (PREVOTE, 2, hash32(fresh))
    assert one.not_safe == 0, "the guard was shown the round that unlocks"
    one.hear_votes(PREVOTE, 2, hash32(fresh), others(one))
    assert (one.run.lock.round, one.run.lock.block_hash) == (2, hash32(fresh))
    assert (one.run.valid.round, one.run.valid.block_hash) == (2, hash32(fresh))


def test_a_lock_takes_its_own_block_with_an_older_proof() -> None:
    one = in_round(locked_watching(1, 2), 1)
    one.hear(proposal_bytes(1, X, valid_round=0)).hear_votes(PREVOTE, 1, HX, others(one))
    assert one.run.lock.round == 1
    in_round(one, 2)
    one.hear(proposal_bytes(2, X, valid_round=0))
    assert one.votes()[-1] == (PREVOTE, 2, HX)


def test_a_lock_does_not_give_way_to_prevotes_of_an_earlier_round() -> None:
    own = other_than_proposer_of(1, 2)
    one = OneEngine(own).begin()
    in_round(one, 1)
    later = block_of(1, 5)
    one.hear(proposal_bytes(1, later, action=5)).hear_votes(PREVOTE, 1, hash32(later), others(one))
    assert one.run.lock.round == 1
    in_round(one, 2)
    one.hear_votes(PREVOTE, 0, HX, others(one))
    one.hear(proposal_bytes(2, X, valid_round=0))
    assert one.votes()[-1] == (PREVOTE, 2, None)


def test_without_the_prevotes_of_its_valid_round_a_block_gets_nil_at_the_timeout() -> None:
    one = in_round(OneEngine(other_than_proposer_of(1)).begin(), 1)
    one.hear(proposal_bytes(1, X, valid_round=0))
    assert (PREVOTE, 1, HX) not in one.votes()
    one.tick(CONFIG.propose_timeout_ms + CONFIG.timeout_delta_ms)
    assert one.votes()[-1] == (PREVOTE, 1, None)


# Precommitting.


def test_prevotes_of_the_required_stake_lock_and_precommit() -> None:
    one = engine_of(False).begin().hear(proposal_bytes(0, X))
    one.hear_votes(PREVOTE, 0, HX, others(one)[:1])
    assert len(one.votes()) == 1
    one.hear_votes(PREVOTE, 0, HX, others(one)[1:2])
    assert one.votes() == [(PREVOTE, 0, HX), (PRECOMMIT, 0, HX)]
    assert (one.run.lock.block_hash, one.run.valid.block_hash, one.run.valid.block) == (HX, HX, X)
    assert len(one.run.valid.proof) == 3


def test_prevotes_for_nil_precommit_nil() -> None:
    one = engine_of(False).begin().tick(CONFIG.propose_timeout_ms)
    one.hear_votes(PREVOTE, 0, None, others(one))
    assert one.votes() == [(PREVOTE, 0, None), (PRECOMMIT, 0, None)]
    assert one.run.lock is None


def test_split_prevotes_wait_for_stragglers_and_then_precommit_nil() -> None:
    one = engine_of(False).begin().hear(proposal_bytes(0, X))
    one.hear_votes(PREVOTE, 0, None, others(one)[:2])
    one.tick(CONFIG.vote_timeout_ms - 1)
    assert len(one.votes()) == 1
    one.tick(1)
    assert one.votes()[-1] == (PRECOMMIT, 0, None)


def test_the_wait_for_stragglers_begins_with_the_own_prevote() -> None:
    one = engine_of(False).begin()
    one.hear_votes(PREVOTE, 0, None, others(one)[:2]).hear_votes(PREVOTE, 0, HX, others(one)[2:])
    one.tick(CONFIG.propose_timeout_ms)
    assert one.votes() == [(PREVOTE, 0, None), (PRECOMMIT, 0, None)], "with the own one they agree"
    split = engine_of(False).begin()
    split.hear_votes(PREVOTE, 0, None, others(split)[:1]).hear_votes(PREVOTE, 0, HX, others(split)[1:])
    split.tick(CONFIG.propose_timeout_ms + CONFIG.vote_timeout_ms - 1)
    assert split.votes() == [(PREVOTE, 0, None)]
    assert split.tick(1).votes()[-1] == (PRECOMMIT, 0, None)


def test_too_few_votes_end_no_round() -> None:
    one = locked()
    one.hear_votes(PRECOMMIT, 0, None, others(one)[:1]).tick(1_000_000)
    assert one.run.round == 0
    waiting = engine_of(False).begin().hear(proposal_bytes(0, X)).tick(1_000_000)
    assert waiting.votes() == [(PREVOTE, 0, HX)]


def test_a_place_is_asked_for_once_while_the_guard_is_slow() -> None:
    one = engine_of(True).begin()
    built = [
        one.engine.step(one.now_ms, BlockBuilt(1, 0, block_of(0, action), actions_of(action))) for action in (1, 2)
    ]
    assert [sum(isinstance(effect, Sign) for effect in effects) for effects in built] == [1, 0]


def test_a_block_judged_invalid_is_not_precommitted_whatever_the_others_say() -> None:
    one = engine_of(False).begin()
    one.verdicts[HX] = False
    one.hear(proposal_bytes(0, X)).hear_votes(PREVOTE, 0, HX, others(one))
    one.tick(CONFIG.vote_timeout_ms)
    assert one.votes() == [(PREVOTE, 0, None), (PRECOMMIT, 0, None)]
    assert one.run.lock is one.run.valid is None


def test_a_fresh_block_refused_for_its_time_is_judged_again_once_the_others_took_it() -> None:
    one = engine_of(False).begin()
    one.answering = False
    one.hear(proposal_bytes(0, X)).feed(BlockJudged(1, HX, False))
    assert one.votes() == [(PREVOTE, 0, None)]
    one.hear_votes(PREVOTE, 0, HX, others(one))
    assert [judge.fresh for judge in one.all(JudgeBlock)] == [True, False]
    one.feed(BlockJudged(1, HX, True))
    assert one.votes()[-1] == (PRECOMMIT, 0, HX)


def test_prevotes_of_an_earlier_round_make_a_valid_value_but_no_lock() -> None:
    one = in_round(engine_of(False).begin().hear(proposal_bytes(0, X)), 1)
    one.hear_votes(PREVOTE, 0, HX, others(one))
    assert one.run.valid.round == 0
    assert one.run.lock is None
