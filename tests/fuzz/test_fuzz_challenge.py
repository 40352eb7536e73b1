"""Whatever a peer sends as challenge, receipt or reveal: a typed outcome or a protocol error, and never a pass."""

from __future__ import annotations

import contextlib
from functools import partial

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.challenge import answer, find_proof, put, sign_challenge, sign_receipt
from agent_world.distfs.challenge_round import AskReveal, ChallengeRound, Outcome, OutcomeKind, RoundRules
from agent_world.errors import DecodeError, Refused
from agent_world.handlers.challenge import ChallengeHandler
from agent_world.testing.vectors_challenge import BLOB, CHALLENGER, GENESIS, TARGET, WORLD, file_of, getter, question_of
from agent_world.wire import record
from agent_world.wire.challenge import ChallengeRevealRequest, ChallengeRevealResponse
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import Hash32, peer_id_of

FUZZ = settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
RULES = RoundRules(genesis_hash=GENESIS, ttl_ms=1_000, skew_ms=100)
ASKER, HOLDER = peer_id_of(CHALLENGER.public_key), peer_id_of(TARGET.public_key)
TOP, BLOBS = file_of(BLOB)
QUESTION = question_of(TOP)
CHALLENGE = put(QUESTION, 0, 0, 1_000)
ASKED = record.to_bytes(sign_challenge(CHALLENGE, GENESIS, CHALLENGER))
RECEIPT = record.to_bytes(sign_receipt(answer(CHALLENGE, getter(BLOBS), 0)[0], GENESIS, TARGET))
PROOF = find_proof(QUESTION, getter(BLOBS))
REVEAL = record.to_bytes(ChallengeRevealResponse(path=PROOF.path, leaf=PROOF.leaf))
OTHER = cid_of(b"other")


@st.composite
def spoiled(draw: st.DrawFn, good: bytes) -> bytes:
    """Other bytes than ``good``: changed, cut, or of a kind of their own."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("bit", "cut", "insert", "new"))):
            case "bit" if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[place : place + draw(st.integers(1, 60))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=9))
            case _:
                data[:] = draw(st.binary(max_size=200))
    return bytes(data) if bytes(data) != good else good + b"\x00"


class Host:
    world_id = WORLD
    genesis_hash = GENESIS

    def block_hash(self, height: int) -> Hash32 | None:
        return None if height else GENESIS

    def read(self, content: ContentHash) -> bytes:
        found: bytes = getter(BLOBS)(content)
        return found


def asking() -> ChallengeRound:
    made = ChallengeRound(QUESTION, RULES)
    assert made.give(0, CHALLENGER).payload == ASKED
    return made


@FUZZ
@given(spoiled(RECEIPT))
def test_no_spoiled_receipt_leads_to_a_reveal(data: bytes) -> None:
    outcome = asking().answered(HOLDER, data)
    assert isinstance(outcome, Outcome)
    assert outcome.kind is OutcomeKind.FAILED
    assert len(outcome.detail) < 500


@FUZZ
@given(spoiled(REVEAL))
def test_no_spoiled_reveal_passes(data: bytes) -> None:
    made = asking()
    assert isinstance(made.answered(HOLDER, RECEIPT), AskReveal)
    outcome = made.revealed(HOLDER, data)
    assert outcome is not None
    assert outcome.kind is OutcomeKind.FAILED


@FUZZ
@given(spoiled(ASKED), spoiled(record.to_bytes(ChallengeRevealRequest(challenge_id=Hash32(OTHER.digest)))))
def test_a_target_answers_no_spoiled_request(asked: bytes, shown: bytes) -> None:
    handler = ChallengeHandler((HOLDER, TARGET), Host(), lambda: 0, skew_ms=100)
    for serve, data in ((handler.serve_challenge, asked), (handler.serve_reveal, shown)):
        answered = False
        with contextlib.suppress(DecodeError, Refused):
            trio.run(partial(serve, ASKER, data))
            answered = True
        assert not answered
