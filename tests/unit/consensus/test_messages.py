from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_engine import (
    CONTEXT,
    KEYS,
    NAMES,
    WORLD,
    actions_of,
    block_of,
    others_of,
    proposal_bytes,
    proposer,
    vote_bytes,
)

from agent_world.consensus.context import HeightContext
from agent_world.consensus.messages import (
    EARLY_HEIGHTS_MAX,
    EarlyMessage,
    VerifiedProposal,
    VerifiedVote,
    open_message,
    open_proposal,
    open_vote,
)
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign, sign_record
from agent_world.errors import Ignored, RemoteError
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.ids import U32, U64, ValidatorId, WorldId
from agent_world.wire.limits import BLOCK_ACTIONS_MAX, PROPOSAL_BYTES_MAX, VOTE_BYTES_MAX

BLOCK = block_of(0)
STRANGER = KeyPair(b"\x63" * 32)
VOTE = Vote(world_id=CONTEXT.world_id, height=U64(1), round=U32(0), step=Step.PREVOTE, block_hash=hash32(BLOCK))
FIRST = proposer(0)
PROPOSAL = Proposal(
    world_id=CONTEXT.world_id,
    height=U64(1),
    round=U32(0),
    valid_round=None,
    block=BLOCK,
    actions=actions_of(),
)
BODY = record.from_bytes(WorldBlock, BLOCK, size_max=4_096)


def rule_of(action: Callable[[], object]) -> str:
    with pytest.raises((RemoteError, Ignored)) as error:
        action()
    assert isinstance(error.value, (RemoteError, Ignored))
    return error.value.rule


def signed_vote(key: KeyPair = KEYS[NAMES[0]], domain: Domain = Domain.VOTE, **fields: Any) -> bytes:
    return sign_record(domain, WORLD.genesis_hash, attrs.evolve(VOTE, **fields), key)


def signed_proposal(who: ValidatorId = FIRST, domain: Domain = Domain.PROPOSAL, **fields: Any) -> bytes:
    return sign_record(domain, WORLD.genesis_hash, attrs.evolve(PROPOSAL, **fields), KEYS[who])


def with_block(round_: int = 0, valid_round: int | None = None, **fields: Any) -> bytes:
    block = record.to_bytes(attrs.evolve(BODY, **fields))
    return signed_proposal(proposer(round_), round=round_, valid_round=valid_round, block=block)


def test_a_vote() -> None:
    data = signed_vote()
    opened = open_vote(data, CONTEXT)
    assert (opened.vote, opened.validator.validator_id, opened.data) == (VOTE, NAMES[0], data)
    assert opened.body == record.to_bytes(VOTE)
    assert open_message(data, CONTEXT) == opened


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("V1", b""),
        ("V1", signed_vote() + b"\x00"),
        ("V1", bytes(VOTE_BYTES_MAX + 1)),
        ("V1", record.to_bytes(sign(Domain.VOTE, WORLD.genesis_hash, b"\xa0", KEYS[NAMES[0]]))),
        ("V2", signed_vote(world_id=WorldId("other"))),
        ("V3", signed_vote(step=Step.PROPOSE)),
        ("V4", signed_vote(height=U64(7))),
        ("V5", signed_vote(STRANGER)),
        ("V6", signed_vote(domain=Domain.PROPOSAL)),
        ("V6", record.to_bytes(sign(Domain.VOTE, hash32(b"other genesis"), record.to_bytes(VOTE), KEYS[NAMES[0]]))),
    ],
)
def test_rules_of_votes(rule: str, data: bytes) -> None:
    assert rule_of(lambda: open_vote(data, CONTEXT)) == rule


def test_a_fresh_proposal() -> None:
    opened = open_proposal(signed_proposal(), CONTEXT)
    assert (opened.proposal, opened.block, opened.block_hash) == (PROPOSAL, BODY, hash32(BLOCK))
    assert open_message(signed_proposal(), CONTEXT) == opened


def test_a_block_proposed_again_keeps_its_round_and_proposer() -> None:
    opened = open_proposal(proposal_bytes(3, BLOCK, valid_round=1), CONTEXT)
    assert (opened.block.round, opened.validator.validator_id) == (0, proposer(3))


@pytest.mark.parametrize(
    ("rule", "data"),
    [
        ("P1", b""),
        ("P1", bytes(PROPOSAL_BYTES_MAX + 1)),
        ("P1", record.to_bytes(sign(Domain.PROPOSAL, WORLD.genesis_hash, b"\xa0", KEYS[proposer(0)]))),
        ("P2", signed_proposal(world_id=WorldId("other"))),
        ("P3", signed_proposal(height=U64(7))),
        ("P4", sign_record(Domain.PROPOSAL, WORLD.genesis_hash, PROPOSAL, STRANGER)),
        ("P5", signed_proposal(domain=Domain.VOTE)),
        ("P6", signed_proposal(others_of(proposer(0))[0])),
        ("P7", signed_proposal(block=b"\xa0")),
        ("P8", with_block(world_id=WorldId("other"))),
        ("P8", with_block(height=U64(2))),
        ("P8", with_block(prev_block_hash=hash32(b"other parent"))),
        ("P9", with_block(slot=U64(2))),
        ("P9", with_block(epoch=U64(1))),
        ("P10", signed_proposal(proposer(1), round=U32(1))),
        ("P10", proposal_bytes(1, block_of(1), valid_round=0)),
        ("P10", proposal_bytes(1, BLOCK, valid_round=1)),
        ("P11", with_block(proposer_id=proposer(1))),
        ("P12", with_block(validators_hash=hash32(b"other"))),
        ("P12", with_block(next_validators_hash=hash32(b"other"))),
        ("P13", with_block(timestamp_ms=CONTEXT.parent_timestamp_ms)),
        ("P14", signed_proposal(actions=actions_of() * 2)),
        ("P14", signed_proposal(actions=tuple(ContentHash(hash32(bytes([n % 256, n // 256]))) for n in range(513)))),
        ("P15", signed_proposal(actions=())),
    ],
)
def test_rules_of_proposals(rule: str, data: bytes) -> None:
    assert BLOCK_ACTIONS_MAX == 512
    assert rule_of(lambda: open_proposal(data, CONTEXT)) == rule


def test_the_epoch_boundary_is_checked_against_the_next_set() -> None:
    other = hash32(b"next set")
    context = attrs.evolve(CONTEXT, epoch_length_slots=2, next_validators_hash=other)
    block = WORLD.build(context, 0, CONTEXT.parent_timestamp_ms + 1, actions_of())
    assert record.from_bytes(WorldBlock, block, size_max=4_096).next_validators_hash == other
    assert open_proposal(proposal_bytes(0, block, context=context), context)


def at_height(height: int) -> HeightContext:
    return attrs.evolve(CONTEXT, height=height)


@pytest.mark.parametrize("ahead", range(1, EARLY_HEIGHTS_MAX + 1))
def test_messages_of_the_next_heights_wait(ahead: int) -> None:
    for data in (signed_vote(height=U64(1 + ahead)), signed_proposal(height=U64(1 + ahead))):
        early = open_message(data, CONTEXT)
        assert isinstance(early, EarlyMessage)
        assert (early.height, early.data) == (1 + ahead, data)


def test_messages_of_other_heights_are_ignored() -> None:
    far = 1 + EARLY_HEIGHTS_MAX + 1
    assert rule_of(lambda: open_message(signed_vote(height=U64(far)), CONTEXT)) == "V4"
    assert rule_of(lambda: open_message(signed_proposal(height=U64(far)), CONTEXT)) == "P3"
    assert rule_of(lambda: open_message(signed_vote(), at_height(2))) == "V4"
    assert rule_of(lambda: open_message(signed_proposal(), at_height(2))) == "P3"


def test_strangers_do_not_reach_the_early_buffer() -> None:
    assert rule_of(lambda: open_message(signed_vote(STRANGER, height=U64(2)), CONTEXT)) == "V7"
    forged = record.to_bytes(
        attrs.evolve(
            sign(Domain.VOTE, WORLD.genesis_hash, record.to_bytes(attrs.evolve(VOTE, height=U64(2))), STRANGER),
            key=KEYS[NAMES[0]].public_key,
        )
    )
    assert rule_of(lambda: open_message(forged, CONTEXT)) == "V7"
    assert rule_of(lambda: open_message(signed_vote(height=U64(2), world_id=WorldId("x")), CONTEXT)) == "V2"


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([signed_vote(), signed_proposal(), vote_bytes(NAMES[1], Step.PRECOMMIT, 3, None)]), st.data())
def test_broken_bytes_are_refused_and_nothing_else(good: bytes, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(good) - 1))
    bad = good[:place] + bytes([good[place] ^ (1 << draw.draw(st.integers(0, 7)))]) + good[place + 1 :]
    with pytest.raises((RemoteError, Ignored)):
        open_message(bad, CONTEXT)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteError):
        open_message(data, CONTEXT)


def test_types() -> None:
    assert isinstance(open_message(signed_vote(), CONTEXT), VerifiedVote)
    assert isinstance(open_message(signed_proposal(), CONTEXT), VerifiedProposal)


@pytest.mark.parametrize(("make", "key", "rule"), [(signed_vote, NAMES[0], "V6"), (signed_proposal, FIRST, "P5")])
def test_only_what_the_own_guard_has_just_signed_is_not_verified_again(
    make: Callable[..., bytes], key: ValidatorId, rule: str
) -> None:
    forged = make(domain=Domain.ACTION)
    other = next(name for name in NAMES if name != key)
    assert open_message(forged, CONTEXT, verified=KEYS[key].public_key).data == forged
    assert rule_of(lambda: open_message(forged, CONTEXT, verified=KEYS[other].public_key)) == rule
    assert rule_of(lambda: open_message(forged, CONTEXT)) == rule
