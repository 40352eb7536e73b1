from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from agent_world.consensus.evidence import Equivocation, make_evidence, open_evidence, verify_evidence
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign_record
from agent_world.errors import DecodeError, RemoteError
from agent_world.wire import record
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.evidence import EquivocationEvidence, EvidenceKind
from agent_world.wire.ids import U32, U64, Hash32, ValidatorId, WorldId
from agent_world.wire.limits import EVIDENCE_BYTES_MAX, PAYLOAD_BYTES_MAX, PROPOSAL_BYTES_MAX

WORLD = WorldId("w")
GENESIS = hash32(b"genesis")
KEY = KeyPair(hash32(b"liar"))
V = ValidatorId("v1")


def vote(
    choice: bytes | None, *, step: Step = Step.PREVOTE, round: int = 2, key: KeyPair = KEY, genesis: Hash32 = GENESIS
) -> bytes:
    block_hash = None if choice is None else hash32(choice)
    body = Vote(world_id=WORLD, height=U64(7), round=U32(round), step=step, block_hash=block_hash)
    return sign_record(Domain.VOTE, genesis, body, key)


def proposal(block: bytes, *, key: KeyPair = KEY) -> bytes:
    body = Proposal(world_id=WORLD, height=U64(7), round=U32(2), valid_round=None, block=block, actions=())
    return sign_record(Domain.PROPOSAL, GENESIS, body, key)


@pytest.mark.parametrize(("first", "second", "kind"), [
    (vote(b"a"), vote(b"b"), EvidenceKind.DOUBLE_PREVOTE),
    (vote(b"a"), vote(None), EvidenceKind.DOUBLE_PREVOTE),
    (vote(b"a", step=Step.PRECOMMIT), vote(b"b", step=Step.PRECOMMIT), EvidenceKind.DOUBLE_PRECOMMIT),
    (proposal(b"a"), proposal(b"b"), EvidenceKind.DOUBLE_PROPOSAL),
])  # fmt: skip
def test_two_messages_for_one_place_prove_it_in_either_order(first: bytes, second: bytes, kind: EvidenceKind) -> None:
    evidence = make_evidence(WORLD, V, first, second)
    assert evidence == make_evidence(WORLD, V, second, first)
    assert open_evidence(record.to_bytes(evidence)) == evidence
    assert verify_evidence(evidence, WORLD, GENESIS) == Equivocation(key=KEY.public_key, height=7, round=2, kind=kind)


def good() -> EquivocationEvidence:
    return make_evidence(WORLD, V, vote(b"a"), vote(b"b"))


def of(first: bytes, second: bytes, kind: EvidenceKind = EvidenceKind.DOUBLE_PREVOTE) -> EquivocationEvidence:
    low, high = sorted((first, second))
    return EquivocationEvidence(world_id=WORLD, validator_id=V, kind=kind, message_a=low, message_b=high)


@pytest.mark.parametrize(("rule", "broken"), [
    ("E1", lambda: attrs.evolve(good(), message_a=b"")),
    ("E1", lambda: of(vote(b"a", step=Step.PROPOSE), vote(b"b", step=Step.PROPOSE), EvidenceKind.DOUBLE_PROPOSAL)),
    ("E2", lambda: attrs.evolve(good(), world_id=WorldId("w2"))),
    ("E3", lambda: of(vote(b"a"), vote(b"b", key=KeyPair(hash32(b"another"))))),
    ("E4", lambda: of(vote(b"a"), vote(b"b", round=3))),
    ("E4", lambda: of(vote(b"a"), vote(b"b", step=Step.PRECOMMIT))),
    ("E4", lambda: attrs.evolve(good(), kind=EvidenceKind.DOUBLE_PRECOMMIT)),
    ("E4", lambda: of(vote(b"a"), proposal(b"b"))),
    ("E5", lambda: of(vote(b"a"), vote(b"a"))),
    ("E5", lambda: attrs.evolve(good(), message_a=good().message_b, message_b=good().message_a)),
    ("E6", lambda: of(vote(b"a"), vote(b"b", genesis=hash32(b"another world")))),
])  # fmt: skip
def test_what_proves_nothing_names_its_rule(rule: str, broken: Callable[[], EquivocationEvidence]) -> None:
    with pytest.raises(RemoteError) as caught:
        verify_evidence(broken(), WORLD, GENESIS)
    assert caught.value.rule == rule


def test_bytes_that_are_no_evidence() -> None:
    for data in (b"", b"\x00" * 9, bytes(EVIDENCE_BYTES_MAX + 1)):
        with pytest.raises(DecodeError) as caught:
            open_evidence(data)
        assert caught.value.rule == "E1"
    with pytest.raises(DecodeError):
        make_evidence(WORLD, V, b"x", vote(b"a"))


def test_two_of_the_largest_proposals_fit_into_an_action() -> None:
    largest = EquivocationEvidence(
        world_id=WorldId("z" * 64),
        validator_id=ValidatorId("z" * 64),
        kind=EvidenceKind.DOUBLE_PROPOSAL,
        message_a=bytes(PROPOSAL_BYTES_MAX),
        message_b=bytes(PROPOSAL_BYTES_MAX),
    )
    assert len(record.to_bytes(largest)) <= EVIDENCE_BYTES_MAX <= PAYLOAD_BYTES_MAX
