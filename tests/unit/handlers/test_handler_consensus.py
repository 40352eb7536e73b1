from __future__ import annotations

import pytest

from agent_world.consensus.context import HeightContext
from agent_world.consensus.messages import Message, VerifiedVote
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign_record
from agent_world.errors import RemoteError
from agent_world.handlers.consensus import ConsensusHandler
from agent_world.net.interface import Verdict
from agent_world.wire.consensus import Step, ValidatorEntry, ValidatorSetRecord, Vote
from agent_world.wire.ids import U32, U64, Hash32, PeerId, TimeMs, ValidatorId, WorldId

GENESIS = hash32(b"genesis")
KEY, STRANGER = KeyPair(bytes(32)), KeyPair(bytes([1]) * 32)
SET = ValidatorSet(
    ValidatorSetRecord(
        validators=(ValidatorEntry(validator_id=ValidatorId("v1"), public_key=KEY.public_key, stake=U64(1)),),
        supermajority_numerator=U64(2), supermajority_denominator=U64(3),
    )
)  # fmt: skip


def context() -> HeightContext:
    return HeightContext(
        world_id=WorldId("w"), genesis_hash=GENESIS, height=5, parent_hash=hash32(b"parent"), parent_slot=4,
        parent_timestamp_ms=TimeMs(1), validators=SET, next_validators_hash=SET.hash, epoch_length_slots=32,
    )  # fmt: skip


def vote(height: int = 5, *, key: KeyPair = KEY, world: str = "w") -> bytes:
    body = Vote(
        world_id=WorldId(world), height=U64(height), round=U32(0), step=Step.PREVOTE, block_hash=Hash32(bytes(32))
    )
    return sign_record(Domain.VOTE, GENESIS, body, key)


class Harness:
    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.rules: list[str] = []
        self.handler = ConsensusHandler(context, self.taken.append)
        self.handler.refused = self.rules.append
        self.ahead: list[PeerId] = []
        self.handler.left_behind = self.ahead.append


CASES = {
    "stale": (vote(4), Verdict.IGNORE),
    "stranger": (vote(key=STRANGER), Verdict.REJECT),
    "another world": (vote(world="another"), Verdict.REJECT),
    "garbage": (b"\xff", Verdict.REJECT),
}


async def test_a_good_vote_is_taken(peer: PeerId) -> None:
    harness = Harness()
    await harness.handler.on_message(peer, vote())
    assert harness.handler.validate(peer, vote()) is Verdict.ACCEPT
    assert [type(message) for message in harness.taken] == [VerifiedVote, VerifiedVote]
    assert harness.rules == []


@pytest.mark.parametrize("case", CASES)
async def test_what_is_not_taken_is_told_by_its_rule(peer: PeerId, case: str) -> None:
    data, verdict = CASES[case]
    harness = Harness()
    assert harness.handler.validate(peer, data) is verdict
    if verdict is Verdict.IGNORE:
        await harness.handler.on_message(peer, data)
    else:
        with pytest.raises(RemoteError):
            await harness.handler.on_message(peer, data)
    assert harness.taken == []
    assert len(harness.rules) == 2
    assert len(set(harness.rules)) == 1


@pytest.mark.parametrize(("height", "told"), [(4, False), (5, False), (7, False), (8, True), (2**63, True)])
async def test_who_sends_from_far_ahead_is_asked_for_proof(peer: PeerId, height: int, told: bool) -> None:
    harness = Harness()
    await harness.handler.on_message(peer, vote(height))
    assert harness.ahead == [peer] * told
    assert (harness.rules == ["V4"]) == (height in (4, 8, 2**63))


async def test_a_repeat_is_not_verified_again(peer: PeerId, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness()
    await harness.handler.on_message(peer, vote())
    (taken,) = harness.taken
    harness.handler.is_known = lambda data: data == taken.data
    monkeypatch.setattr("agent_world.handlers.consensus.open_message", lambda *_: pytest.fail("verified again"))
    await harness.handler.on_message(peer, vote())
    assert harness.handler.validate(peer, vote()) is Verdict.ACCEPT
    assert harness.taken == [taken]
