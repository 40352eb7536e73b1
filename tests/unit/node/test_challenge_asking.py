"""node/challenge_asking.py: the own copy is read once the question has left, and a refusal comes as it is."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.challenge import answer, sign_receipt
from agent_world.distfs.challenge_round import ChallengeRound, Outcome, OutcomeKind, RoundRules
from agent_world.errors import ErrorCode, Refused
from agent_world.node.challenge_asking import ask_commitment
from agent_world.testing.vectors_challenge import BLOB, CHALLENGER, GENESIS, TARGET, getter, question_of
from agent_world.wire import record, rpc
from agent_world.wire.challenge import StorageChallenge
from agent_world.wire.cid import Codec, ContentHash
from agent_world.wire.signed import Signed

CONTENT = cid_of(BLOB, Codec.RAW)
RULES = RoundRules(genesis_hash=GENESIS, ttl_ms=1_000, skew_ms=0)


class Network:
    """Sends after as many turns of the loop as real ones need; ``order`` says what happened when."""

    def __init__(self, order: list[str], refusal: Refused | None = None) -> None:
        self.order = order
        self._refusal = refusal

    async def request(self, _peer: Any, method: str, payload: bytes, *, timeout_s: float) -> bytes:
        assert (method, timeout_s) == (rpc.CHALLENGE, 7.0)
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        self.order.append("sent")
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        self.order.append("answered")
        if self._refusal is not None:
            raise self._refusal
        signed = record.from_bytes(Signed, payload, size_max=4096)
        challenge = record.from_bytes(StorageChallenge, signed.body, size_max=4096)
        receipt, _ = answer(challenge, getter({CONTENT.digest: BLOB}), 0)
        return record.to_bytes(sign_receipt(receipt, GENESIS, TARGET))


def made_with(order: list[str]) -> ChallengeRound:
    def own(content: ContentHash) -> bytes:
        order.append("read")
        return getter({CONTENT.digest: BLOB})(content)

    return ChallengeRound(question_of(CONTENT), RULES, own)


async def test_the_own_copy_is_read_once_and_between_question_and_answer() -> None:
    order: list[str] = []
    made = made_with(order)
    network: Any = Network(order)
    data = await ask_commitment(network, made, made.give(0, CHALLENGER).payload, 7.0)
    outcome = made.answered(made.target, data)
    assert isinstance(outcome, Outcome)
    assert outcome.kind is OutcomeKind.PASSED
    assert order == ["sent", "read", "answered"]


async def test_a_refusal_is_not_in_a_group() -> None:
    made = made_with([])
    network: Any = Network([], Refused(ErrorCode.BUSY, "later"))
    with pytest.raises(Refused) as caught:
        await ask_commitment(network, made, made.give(0, CHALLENGER).payload, 7.0)
    assert caught.value.code is ErrorCode.BUSY
