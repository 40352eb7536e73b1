"""Runs the vectors of protocols/challenge."""

from __future__ import annotations

import trio
from broken_rules import Case, rule_of

from agent_world.crypto.hashing import content_hash
from agent_world.crypto.keys import KeyPair
from agent_world.distfs.challenge import Failed, challenge_id, check_proof, check_receipt, open_receipt, open_reveal
from agent_world.handlers.challenge import ChallengeHandler
from agent_world.wire import record
from agent_world.wire.challenge import (
    ChallengeReceipt,
    ChallengeRevealRequest,
    ChallengeRevealResponse,
    StorageChallenge,
)
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import Hash32, PeerId, peer_id_of
from agent_world.wire.signed import Signed


class Holder:
    """A node that has committed no block and holds one blob."""

    def __init__(self, file: Case) -> None:
        self.world_id = file["world_id"]
        self.genesis_hash = Hash32(bytes.fromhex(file["genesis_hash"]))
        self.blob = bytes.fromhex(file["blob"])

    def block_hash(self, height: int) -> Hash32 | None:
        return None if height else self.genesis_hash

    def read(self, content: ContentHash) -> bytes:
        assert content == content_hash(self.blob)
        return self.blob


def run_challenge_requests(file: Case, case: Case) -> None:
    key = KeyPair(bytes.fromhex(file["target_seed"]))
    own = (peer_id_of(key.public_key), key)
    handler = ChallengeHandler(own, Holder(file), lambda: int(case["now_ms"]), skew_ms=file["skew_ms"])
    signed = bytes.fromhex(case["signed"])

    def serve() -> None:
        for _ in range(2 if case.get("twice") else 1):
            answer = trio.run(handler.serve_challenge, PeerId(file["challenger"]), signed)
        receipt = record.from_bytes(
            ChallengeReceipt, record.from_bytes(Signed, answer, size_max=4096).body, size_max=4096
        )
        asked = record.to_bytes(ChallengeRevealRequest(challenge_id=receipt.challenge_id))
        trio.run(handler.serve_reveal, PeerId(case.get("reveal_to", file["challenger"])), asked)

    assert rule_of(serve) == case.get("rule")


def run_challenge_answers(file: Case, case: Case) -> None:
    """The rule is where the check stands, so the steps are run one by one."""
    genesis = Hash32(bytes.fromhex(file["genesis_hash"]))
    challenge = record.from_bytes(StorageChallenge, bytes.fromhex(case["challenge"]), size_max=4096)
    assert challenge_id(challenge.question).hex() == case["challenge_id"]
    signed = record.from_bytes(Signed, bytes.fromhex(case["signed"]), size_max=4096)
    reveal = ChallengeRevealResponse(
        path=tuple(bytes.fromhex(node) for node in case["path"]), leaf=bytes.fromhex(case["leaf"])
    )
    steps = iter(({"Q8"}, {"Q10", "Q11"}, {"Q9"}, {"Q12", "Q13"}))
    rules, broken = next(steps), None
    try:
        receipt = open_receipt(challenge, signed, genesis)
        rules = next(steps)
        check_receipt(challenge, receipt, file["skew_ms"])
        rules = next(steps)
        proof = open_reveal(challenge.question, reveal)
        rules = next(steps)
        check_proof(challenge.question, receipt, proof)
    except Failed as error:
        broken = error.reason.value
    assert broken == case.get("reason")
    assert case.get("rule") in ({None} if broken is None else rules)
