from __future__ import annotations

import attrs
from one_engine import CONFIG, NAMES, OneEngine, block_of, others_of, proposal_bytes, proposer, vote_bytes

from agent_world.consensus.events import NeedBlock
from agent_world.crypto.hashing import hash32
from agent_world.wire.consensus import Step
from agent_world.wire.ids import ValidatorId

REPEAT_MS = 40
QUICK = attrs.evolve(CONFIG, rebroadcast_ms=REPEAT_MS, vote_timeout_ms=10_000, propose_timeout_ms=10_000)
X = block_of(0)
HX = hash32(X)


def quiet(own: ValidatorId | None = None) -> OneEngine:
    return OneEngine(own or others_of(proposer(0))[0], QUICK).begin()


def sent_in(one: OneEngine, ticks: int) -> list[bytes]:
    before = len(one.sent())
    one.tick(REPEAT_MS * ticks)
    return one.sent()[before:]


def test_own_messages_are_sent_again_until_the_height_moves() -> None:
    one = quiet().hear(proposal_bytes(0, X))
    assert one.own is not None
    own = vote_bytes(one.own, Step.PREVOTE, 0, HX)
    assert [sent_in(one, 1).count(own) for _ in range(5)] == [1] * 5


def test_others_messages_follow_at_growing_intervals() -> None:
    one = quiet()
    other = vote_bytes(others_of(proposer(0))[1], Step.PREVOTE, 0, None)
    one.hear(proposal_bytes(0, X), other)
    counted = [sent_in(one, 1) for _ in range(9)]
    assert [sent.count(other) for sent in counted] == [0, 1, 0, 1, 0, 0, 0, 1, 0]
    assert proposal_bytes(0, X) in counted[1]


def test_a_vote_that_let_this_node_move_on_reaches_those_left_behind() -> None:
    """Otherwise a liar could let some into the next round and leave the others waiting for ever."""
    one = quiet()
    assert one.own is not None
    others = others_of(one.own)
    votes = [vote_bytes(name, Step.PRECOMMIT, 0, None) for name in others]
    one.hear(*votes)
    assert one.run.round == 1
    assert set(votes) <= set(sent_in(one, 2))


def test_own_votes_of_the_round_before_are_sent_again() -> None:
    """Those who missed them need just these to follow."""
    one = OneEngine(others_of(proposer(0))[0], attrs.evolve(QUICK, propose_timeout_ms=20, vote_timeout_ms=20)).begin()
    assert one.own is not None
    one.tick(25).hear_votes(Step.PREVOTE, 0, None, others_of(one.own))
    one.hear_votes(Step.PRECOMMIT, 0, None, others_of(one.own)[:2])
    assert one.run.round == 1
    assert vote_bytes(one.own, Step.PRECOMMIT, 0, None) in sent_in(one, 1)


def test_the_precommit_of_the_lock_is_sent_again_in_later_rounds() -> None:
    one = quiet().hear(proposal_bytes(0, X))
    assert one.own is not None
    one.hear_votes(Step.PREVOTE, 0, HX, others_of(one.own))
    for round_ in range(4):
        one.hear_votes(Step.PRECOMMIT, round_, None, others_of(one.own))
    assert one.run.round == 4
    sent = sent_in(one, 2)
    assert vote_bytes(one.own, Step.PRECOMMIT, 0, HX) in sent
    assert {vote_bytes(name, Step.PREVOTE, 0, HX) for name in others_of(one.own)} <= set(sent), "and what justifies it"
    assert proposal_bytes(0, X) in sent


def test_precommits_go_on_to_those_who_have_not_decided() -> None:
    one = quiet().hear(proposal_bytes(0, X))
    votes = [vote_bytes(name, Step.PRECOMMIT, 0, HX) for name in NAMES if name != one.own]
    one.hear(*votes)
    assert one.run.decided
    assert set(votes) <= set(sent_in(one, 2))


def test_a_missing_block_is_asked_for_again() -> None:
    one = quiet()
    assert one.own is not None
    one.hear_votes(Step.PRECOMMIT, 0, HX, others_of(one.own))
    sent_in(one, 3)
    assert len(one.all(NeedBlock)) == 4


def test_a_watcher_repeats_nothing() -> None:
    one = OneEngine(None, QUICK).begin().hear(proposal_bytes(0, X))
    one.hear_votes(Step.PREVOTE, 0, HX, NAMES[:3])
    assert sent_in(one, 8) == []
