from __future__ import annotations

import attrs
import pytest
from one_engine import (
    CONFIG,
    CONTEXT,
    KEYS,
    NAMES,
    OneEngine,
    actions_of,
    block_of,
    others_of,
    proposal_bytes,
    proposer,
    vote_bytes,
)

from agent_world.consensus import messages
from agent_world.consensus.engine import Engine
from agent_world.consensus.events import (
    BlockBuilt,
    BlockJudged,
    BuildBlock,
    Commit,
    Drop,
    Dropped,
    EarlyReceived,
    OwnSigned,
    StartHeight,
    VoteReceived,
    Wake,
    WorkAvailable,
)
from agent_world.consensus.messages import EarlyMessage, open_vote
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.errors import LocalError, UsageError
from agent_world.wire.consensus import Step
from agent_world.wire.ids import U64, ValidatorId

X = block_of(0)
HX = hash32(X)
NEXT = attrs.evolve(
    CONTEXT, height=2, parent_hash=HX, parent_slot=1, parent_timestamp_ms=CONTEXT.parent_timestamp_ms + 10
)
ON_DEMAND = attrs.evolve(CONFIG, create_empty_blocks=False)
FIRST = proposer(0)


def own() -> ValidatorId:
    return others_of(FIRST)[0]


# When a height begins.


def test_nothing_before_the_first_height() -> None:
    engine = Engine(CONFIG, KEYS[own()].public_key)
    assert engine.wake_at_ms is None
    assert engine.step(0, WorkAvailable()) == (Dropped(Drop.NO_HEIGHT, "WorkAvailable"),)


def test_work_is_ordered_after_the_pause() -> None:
    one = OneEngine(FIRST).start().feed(WorkAvailable()).tick(CONFIG.block_interval_ms - 1)
    assert one.all(BuildBlock) == []
    assert one.tick(1).all(BuildBlock) == [BuildBlock(1, 0, 1)]


def test_without_work_an_empty_block_is_made_later() -> None:
    one = OneEngine(FIRST).start().tick(CONFIG.empty_block_interval_ms - 1)
    assert one.all(BuildBlock) == []
    assert len(one.tick(1).all(BuildBlock)) == 1


def test_without_work_and_without_empty_blocks_nothing_happens_until_others_begin() -> None:
    one = OneEngine(FIRST, ON_DEMAND).start().tick(1_000_000)
    assert one.all(BuildBlock) == []
    one.hear(vote_bytes(own(), Step.PREVOTE, 0, None))
    assert len(one.all(BuildBlock)) == 1


def test_one_vote_does_not_shorten_the_pause_but_a_proposal_or_two_do() -> None:
    one = OneEngine(own()).start().hear(vote_bytes(NAMES[0] if own() != NAMES[0] else NAMES[1], Step.PREVOTE, 0, None))
    assert not one.run.started
    assert OneEngine(own()).start().hear(proposal_bytes(0, X)).run.started
    voters = [name for name in NAMES if name != own()][:2]
    assert OneEngine(own()).start().hear_votes(Step.PREVOTE, 0, None, voters).run.started


def test_work_of_the_last_height_is_not_work_of_this_one() -> None:
    one = OneEngine(own(), ON_DEMAND).start().feed(WorkAvailable())
    one.hear(proposal_bytes(0, X)).hear_votes(Step.PRECOMMIT, 0, HX, others_of(own()))
    one.feed(StartHeight(NEXT)).tick(100_000)
    assert not one.run.started
    assert one.feed(WorkAvailable()).run.started


# Calls out of turn.


def test_the_clock_must_not_run_backwards() -> None:
    one = OneEngine(own()).start().tick(10)
    one.feed(Wake())
    with pytest.raises(LocalError, match="clock"):
        one.engine.step(9, Wake())


@pytest.mark.parametrize("context", [CONTEXT, attrs.evolve(CONTEXT, height=0)])
def test_heights_only_go_up(context: object) -> None:
    one = OneEngine(own()).start()
    with pytest.raises(LocalError, match="started after"):
        one.feed(StartHeight(context))  # type: ignore[arg-type]


def test_a_set_below_two_thirds_is_refused() -> None:
    record = attrs.evolve(
        CONTEXT.validators.record, supermajority_numerator=U64(51), supermajority_denominator=U64(100)
    )
    context = attrs.evolve(CONTEXT, validators=ValidatorSet(record))
    with pytest.raises(UsageError, match="below 2/3"):
        OneEngine(own(), context=context).start()


def test_the_guard_returns_what_was_asked_for() -> None:
    one = OneEngine(own()).start()
    for data in (b"junk", vote_bytes(FIRST, Step.PREVOTE, 0, None), vote_bytes(own(), Step.PREVOTE, 0, None, height=2)):
        with pytest.raises(LocalError, match="guard"):
            one.feed(OwnSigned(data))


# Heights.


def test_what_is_late_is_dropped_with_a_reason() -> None:
    one = OneEngine(own()).start()
    vote = open_vote(vote_bytes(FIRST, Step.PREVOTE, 0, None), CONTEXT)
    signed = vote_bytes(own(), Step.PREVOTE, 0, None)
    one.feed(StartHeight(NEXT))
    one.feed(VoteReceived(vote)).feed(BlockJudged(1, HX, True)).feed(BlockBuilt(1, 0, X, actions_of()))
    one.feed(OwnSigned(signed)).feed(BlockJudged(2, HX, True))
    assert one.drops() == [
        Drop.STALE_HEIGHT,
        Drop.LATE_BLOCK,
        Drop.LATE_BLOCK,
        Drop.STALE_HEIGHT,
        Drop.LATE_BLOCK,
    ]


def test_early_votes_count_once_their_height_comes() -> None:
    one = OneEngine(own()).start()
    block = block_of(0, context=NEXT)
    early = [vote_bytes(name, Step.PRECOMMIT, 0, hash32(block), height=2) for name in others_of(own())]
    one.hear(*early, proposal_bytes(0, block, context=NEXT))
    assert one.all(Commit) == []
    one.feed(StartHeight(NEXT))
    assert [commit.block for commit in one.all(Commit)] == [block]


def test_the_signature_of_an_early_message_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    monkeypatch.setattr(messages, "is_valid", lambda *args: not verified.append(args[2]))
    one = OneEngine(own()).start()
    one.hear(*(vote_bytes(name, Step.PRECOMMIT, 0, HX, height=2) for name in others_of(own())))
    assert len(verified) == len(others_of(own()))
    one.feed(StartHeight(NEXT))
    assert len(verified) == len(others_of(own()))
    assert one.run.book.at(0).precommits.stake == sum(CONTEXT.validators.by_id(name).stake for name in others_of(own()))


def test_an_early_message_that_breaks_a_rule_is_dropped_when_its_height_comes() -> None:
    one = OneEngine(own()).start()
    one.hear(proposal_bytes(0, block_of(0), context=attrs.evolve(CONTEXT, height=2)))
    one.feed(StartHeight(NEXT))
    assert one.drops() == [Drop.EARLY_INVALID]


def test_an_early_message_that_is_due_by_now_is_taken() -> None:
    one = OneEngine(own()).start()
    data = proposal_bytes(0, X)
    one.feed(EarlyReceived(EarlyMessage(height=1, key=KEYS[FIRST].public_key, data=data)))
    assert one.votes() == [(Step.PREVOTE, 0, HX)] if one.run.started else True
    assert one.run.book.blocks


def test_the_early_buffer_reports_what_gives_way() -> None:
    one = OneEngine(own()).start()
    one.hear(*(vote_bytes(FIRST, Step.PREVOTE, round_, None, height=2) for round_ in range(20)))
    assert one.drops() == [Drop.EARLY_FULL] * 4


def test_a_whole_height_and_the_next() -> None:
    one = OneEngine(own()).begin().hear(proposal_bytes(0, X))
    one.hear_votes(Step.PREVOTE, 0, HX, others_of(own())).hear_votes(Step.PRECOMMIT, 0, HX, others_of(own()))
    one.feed(StartHeight(NEXT)).tick(200)
    assert (one.run.context.height, one.run.round, one.run.lock) == (2, 0, None)
    block = block_of(0, context=NEXT)
    if one.own != NEXT.proposer(0):
        one.hear(proposal_bytes(0, block, context=NEXT))
        assert one.votes()[-1] == (Step.PREVOTE, 0, hash32(block))


# The key.


def test_a_newer_message_by_our_key_ends_signing_at_this_height() -> None:
    one = OneEngine(own()).begin().hear(vote_bytes(own(), Step.PREVOTE, 0, HX))
    assert one.drops() == [Drop.KEY_ELSEWHERE]
    one.hear(proposal_bytes(0, X)).tick(10_000)
    assert one.votes() == []
    assert one.feed(OwnSigned(vote_bytes(own(), Step.PREVOTE, 0, None))).drops()[-1] is Drop.KEY_ELSEWHERE


def test_an_echo_of_our_own_messages_is_a_duplicate() -> None:
    one = OneEngine(own()).begin().hear(proposal_bytes(0, X)).hear(vote_bytes(own(), Step.PREVOTE, 0, HX))
    assert one.drops() == [Drop.DUPLICATE]
    for round_ in range(6):
        one.hear_votes(Step.PRECOMMIT, round_, None, others_of(own()))
    one.hear(vote_bytes(own(), Step.PREVOTE, 0, HX))
    assert Drop.KEY_ELSEWHERE not in one.drops()


def test_equal_inputs_give_equal_effects() -> None:
    runs = [OneEngine(own()).begin().hear(proposal_bytes(0, X)).tick(5_000).effects for _ in range(2)]
    assert runs[0] == runs[1]


def test_work_is_known_until_the_next_height() -> None:
    one = OneEngine(FIRST).start()
    assert not one.engine.has_work
    assert one.feed(WorkAvailable()).engine.has_work
