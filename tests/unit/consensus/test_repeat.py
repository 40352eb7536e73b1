from __future__ import annotations

import attrs
from one_engine import CONFIG, NAMES, OneEngine, block_of, others_of, proposal_bytes, proposer, vote_bytes

from agent_world.config import ConsensusConfig
from agent_world.consensus.events import NeedBlock
from agent_world.crypto.hashing import hash32
from agent_world.wire.consensus import Step
from agent_world.wire.ids import ValidatorId

REPEAT_MS = 40
QUICK = attrs.evolve(CONFIG, rebroadcast_ms=REPEAT_MS, vote_timeout_ms=10_000, propose_timeout_ms=10_000)
SLOW = attrs.evolve(QUICK, vote_timeout_ms=10_000_000, propose_timeout_ms=10_000_000)
X = block_of(0)
HX = hash32(X)


def quiet(own: ValidatorId | None = None, config: ConsensusConfig = QUICK) -> OneEngine:
    return OneEngine(own or others_of(proposer(0))[0], config).begin()


def sent_in(one: OneEngine, ticks: int) -> list[bytes]:
    before = len(one.sent())
    one.tick(REPEAT_MS * ticks)
    return one.sent()[before:]


def ticks_with(one: OneEngine, message: bytes, ticks: int) -> list[int]:
    """After how many REPEAT_MS each time the message was sent, once a time."""
    counts = [sent_in(one, 1).count(message) for _ in range(ticks)]
    assert set(counts) <= {0, 1}
    return [number for number, count in enumerate(counts, start=1) if count]


def test_own_messages_are_sent_again_at_doubling_intervals_until_the_height_moves() -> None:
    one = quiet(config=SLOW).hear(proposal_bytes(0, X))
    assert one.own is not None
    own = vote_bytes(one.own, Step.PREVOTE, 0, HX)
    assert ticks_with(one, own, 64) == [1, 3, 7, 15, 31, 47, 63], "16 times the first pause is the longest"


def test_others_messages_follow_from_the_second_time_on() -> None:
    one = quiet(config=SLOW)
    other = vote_bytes(others_of(proposer(0))[1], Step.PREVOTE, 0, None)
    one.hear(proposal_bytes(0, X), other)
    assert ticks_with(one, other, 31) == [3, 7, 15, 31]
    assert proposal_bytes(0, X) in sent_in(one, 16)


def test_a_long_stall_costs_little() -> None:
    """What is repeated at a fixed pace is more than a busy machine can take, and keeps the height from moving."""
    one = quiet(config=SLOW)
    one.hear(proposal_bytes(0, X), *(vote_bytes(name, Step.PREVOTE, 0, None) for name in others_of(proposer(0))[1:]))
    sent = sent_in(one, 1_000)
    assert len(sent) <= 1_000 // 16 * 4 + 20, "some four messages every 16 ticks, where it could be one or two a tick"


def test_a_new_round_is_repeated_soon_again() -> None:
    one = quiet(config=SLOW).hear(proposal_bytes(0, X))
    assert one.own is not None
    sent_in(one, 20)
    one.hear_votes(Step.PRECOMMIT, 0, None, others_of(one.own))
    assert one.run.round == 1
    assert vote_bytes(one.own, Step.PREVOTE, 0, HX) in sent_in(one, 1)


def test_a_vote_that_let_this_node_move_on_reaches_those_left_behind() -> None:
    """Otherwise a liar could let some into the next round and leave the others waiting for ever."""
    one = quiet()
    assert one.own is not None
    others = others_of(one.own)
    votes = [vote_bytes(name, Step.PRECOMMIT, 0, None) for name in others]
    one.hear(*votes)
    assert one.run.round == 1
    assert set(votes) <= set(sent_in(one, 3))


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
    sent = sent_in(one, 3)
    assert vote_bytes(one.own, Step.PRECOMMIT, 0, HX) in sent
    assert {vote_bytes(name, Step.PREVOTE, 0, HX) for name in others_of(one.own)} <= set(sent), "and what justifies it"
    assert proposal_bytes(0, X) in sent


def test_precommits_go_on_to_those_who_have_not_decided() -> None:
    one = quiet().hear(proposal_bytes(0, X))
    votes = [vote_bytes(name, Step.PRECOMMIT, 0, HX) for name in NAMES if name != one.own]
    one.hear(*votes)
    assert one.run.decided
    assert set(votes) <= set(sent_in(one, 3))


def test_a_missing_block_is_asked_for_again() -> None:
    one = quiet()
    assert one.own is not None
    one.hear_votes(Step.PRECOMMIT, 0, HX, others_of(one.own))
    sent_in(one, 7)
    assert len(one.all(NeedBlock)) == 4


def test_a_watcher_repeats_nothing() -> None:
    one = OneEngine(None, QUICK).begin().hear(proposal_bytes(0, X))
    one.hear_votes(Step.PREVOTE, 0, HX, NAMES[:3])
    assert sent_in(one, 8) == []
