"""What the vectors of protocols/challenge do not show: bounds, counters, and content that vanishes in between."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.challenge import challenge_id, open_receipt, put, sign_challenge
from agent_world.errors import BlobNotFound, DecodeError, ErrorCode, Refused
from agent_world.handlers import challenge as module
from agent_world.handlers.challenge import ChallengeHandler
from agent_world.testing.examples import key_of
from agent_world.testing.vectors_challenge import BLOB, CHALLENGER, GENESIS, TARGET, WORLD, question_of
from agent_world.wire import record
from agent_world.wire.challenge import ChallengeRevealRequest, ChallengeRevealResponse
from agent_world.wire.cid import Codec, ContentHash
from agent_world.wire.ids import Hash32, PeerId, peer_id_of
from agent_world.wire.limits import HEADER_BYTES_MAX
from agent_world.wire.signed import Signed

CONTENT = cid_of(BLOB, Codec.RAW)
ASKER = peer_id_of(CHALLENGER.public_key)


class Host:
    world_id = WORLD
    genesis_hash = GENESIS

    def __init__(self) -> None:
        self.blobs = {CONTENT.digest: BLOB}

    def block_hash(self, height: int) -> Hash32 | None:
        return None if height else GENESIS

    def read(self, content: ContentHash) -> bytes:
        if content not in self.blobs:
            raise BlobNotFound(content.hex())
        return self.blobs[content]


class Serving:
    """A handler over one blob, what it counts, and who asks it."""

    def __init__(self) -> None:
        self.host = Host()
        self.counted: Counter[str] = Counter()
        own = (peer_id_of(TARGET.public_key), TARGET)
        self.handler = ChallengeHandler(own, self.host, lambda: 0, skew_ms=0)
        self.handler.count = lambda name: self.counted.update([name])

    async def ask(self, nonce: bytes, asker: str | None = None) -> Hash32:
        key = CHALLENGER if asker is None else key_of(asker)
        question = attrs.evolve(question_of(CONTENT, nonce), challenger=peer_id_of(key.public_key))
        signed = sign_challenge(put(question, 0, 0, 1_000), GENESIS, key)
        await self.handler.serve_challenge(question.challenger, record.to_bytes(signed))
        return challenge_id(question)

    async def show(self, challenge: Hash32, asker: PeerId = ASKER) -> ChallengeRevealResponse:
        asked = record.to_bytes(ChallengeRevealRequest(challenge_id=challenge))
        data = await self.handler.serve_reveal(asker, asked)
        return record.from_bytes(ChallengeRevealResponse, data, size_max=2**21)


async def test_t_7_10_a_question_is_answered_as_it_was_signed_and_by_whom_it_is_for() -> None:
    """T-7.10: with its signature it is answered; with another target, in it or signed anew, it is refused."""
    serving = Serving()
    question = question_of(CONTENT, b"\1" * 16)
    assert question.target == peer_id_of(TARGET.public_key)
    signed = sign_challenge(put(question, 0, 0, 1_000), GENESIS, CHALLENGER)
    aimed = put(attrs.evolve(question, target=peer_id_of(key_of("another").public_key)), 0, 0, 1_000)
    for asked, rule in (
        (attrs.evolve(signed, body=record.to_bytes(aimed)), "Q1"),
        (sign_challenge(aimed, GENESIS, CHALLENGER), "Q2"),
    ):
        with pytest.raises(Refused) as caught:
            await serving.handler.serve_challenge(ASKER, record.to_bytes(asked))
        assert caught.value.rule == rule
    assert not serving.counted["challenge.answered"]
    answer = await serving.handler.serve_challenge(ASKER, record.to_bytes(signed))
    receipt = open_receipt(
        put(question, 0, 0, 1_000), record.from_bytes(Signed, answer, size_max=HEADER_BYTES_MAX), GENESIS
    )
    assert receipt.commitment is not None


async def test_what_was_committed_to_is_shown_again_and_again() -> None:
    serving = Serving()
    asked = await serving.ask(b"1")
    for _ in range(2):
        assert (await serving.show(asked)).leaf == BLOB
    assert serving.counted == {"challenge.answered": 1}


async def test_content_that_vanishes_after_the_commitment_is_no_answer_for_now() -> None:
    serving = Serving()
    asked = await serving.ask(b"1")
    serving.host.blobs.clear()
    with pytest.raises(Refused) as caught:
        await serving.show(asked)
    assert caught.value.code is ErrorCode.NOT_AVAILABLE
    assert serving.counted["challenge.lost_since_commitment"] == 1


async def test_missing_content_is_said_and_counted_and_nothing_is_shown() -> None:
    serving = Serving()
    serving.host.blobs.clear()
    asked = await serving.ask(b"1")
    assert serving.counted == {"challenge.answered.MISSING_SAMPLE": 1}
    with pytest.raises(Refused) as caught:
        await serving.show(asked)
    assert caught.value.rule == "Q7"


async def test_a_crowd_of_questions_pushes_out_only_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_PER_PEER_MAX", 3)
    serving = Serving()
    first = await serving.ask(b"0")
    crowd = [await serving.ask(b"%d" % number, "crowd") for number in range(6)]
    assert (await serving.show(first)).leaf == BLOB
    asker = peer_id_of(key_of("crowd").public_key)
    with pytest.raises(Refused):
        await serving.show(crowd[0], asker)
    assert (await serving.show(crowd[-1], asker)).leaf == BLOB
    assert serving.counted["challenge.open_forgotten"] == 3


async def test_all_commitments_and_puttings_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_MAX", 3)
    monkeypatch.setattr(module, "SEEN_MAX", 4)
    serving = Serving()
    for number in range(6):
        await serving.ask(b"x", f"asker {number}")
    assert serving.counted["challenge.open_forgotten"] == 3
    assert serving.counted["challenge.seen_forgotten"] == 2


async def test_rubbish_is_refused_as_such() -> None:
    serving = Serving()
    for serve in (serving.handler.serve_challenge, serving.handler.serve_reveal):
        with pytest.raises(DecodeError):
            await serve(ASKER, b"rubbish")
