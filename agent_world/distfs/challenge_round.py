"""One question to one target, from its first putting to its outcome: what comes in, what is to be done next (P1)."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

import attrs

from agent_world.crypto.keys import KeyPair
from agent_world.distfs.challenge import (
    Failed,
    Get,
    Proof,
    challenge_id,
    check_proof,
    check_receipt,
    find_range,
    open_receipt,
    open_reveal,
    put,
    sign_challenge,
)
from agent_world.distfs.manifest import STANDARD, Layout
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError, LocalError
from agent_world.wire import record
from agent_world.wire.challenge import (
    ChallengeQuestion,
    ChallengeReceipt,
    ChallengeRevealRequest,
    ChallengeRevealResponse,
    FailureReason,
    StorageChallenge,
)
from agent_world.wire.ids import Hash32, PeerId
from agent_world.wire.limits import HEADER_BYTES_MAX, RPC_BODY_BYTES_MAX
from agent_world.wire.signed import Signed

ATTEMPTS_MAX: Final = 8
"""Default of ``challenge.contained_attempts_max``."""


class OutcomeKind(StrEnum):
    """What became of a challenge."""

    PASSED = "passed"
    FAILED = "failed"
    OFFLINE = "offline"
    """The target is not there: nothing is learned."""
    CONTAINED = "contained"
    """It is there and has not answered in time: the same question is put again."""
    NOT_KEPT = "not_kept"
    """It has left this content to others and says so: neither passed nor failed, and its claim to hold it is void."""


@attrs.frozen(slots=True)
class Outcome:
    """``reason`` is set for FAILED only."""

    kind: OutcomeKind
    reason: FailureReason | None = None
    detail: str = ""


@attrs.frozen(slots=True)
class AskCommitment:
    """Send this challenge to the target."""

    payload: bytes


@attrs.frozen(slots=True)
class AskReveal:
    """Ask the target to show what it has committed to."""

    payload: bytes


Effect = AskCommitment | AskReveal | Outcome | None
"""None: what came was not from the target, and changes nothing (K-7.5)."""


def _no_copy(_content: object) -> bytes:
    raise BlobNotFound("the challenger holds nothing")


@attrs.frozen(slots=True, kw_only=True)
class RoundRules:
    """What all rounds of a challenger have in common; times in milliseconds."""

    genesis_hash: Hash32
    ttl_ms: int
    skew_ms: int
    attempts_max: int = ATTEMPTS_MAX
    layout: Layout = STANDARD


class ChallengeRound:
    """Call ``give`` and carry out what it and the others return, until an Outcome; after CONTAINED ``give`` again."""

    def __init__(self, question: ChallengeQuestion, rules: RoundRules, own: Get = _no_copy) -> None:
        self.question = question
        self.id = challenge_id(question)
        self.attempts = 0
        self.receipt: ChallengeReceipt | None = None
        """The last one of the target."""
        self.is_of_chain = False
        """Whether it was drawn from what every storage node has to keep."""
        self.was_revealed = False
        """Whether the outcome rests on a reveal; else on the challenger's own copy."""
        self._rules = rules
        self._own = own
        self._given: StorageChallenge | None = None
        self._proof: Proof | None = None

    @property
    def target(self) -> PeerId:
        """Who is asked."""
        return self.question.target

    def give(self, now_ms: int, key: KeyPair) -> AskCommitment:
        """Put the question, for the first time or again: it is always the same."""
        self._given = put(self.question, self.attempts, now_ms, self._rules.ttl_ms)
        self.attempts += 1
        self.receipt = None
        return AskCommitment(record.to_bytes(sign_challenge(self._given, self._rules.genesis_hash, key)))

    def read_own_copy(self) -> None:
        """Do now, while the answer is on its way, what ``answered`` would do. Nothing that is sent depends on it."""
        self._own_proof()

    def answered(self, peer: PeerId, data: bytes) -> Effect:
        """What ``peer`` answered to the challenge."""
        if peer != self.target:
            return None
        challenge = self._open()
        try:
            signed = record.from_bytes(Signed, data, size_max=HEADER_BYTES_MAX)
            self.receipt = receipt = open_receipt(challenge, signed, self._rules.genesis_hash)
            check_receipt(challenge, receipt, self._rules.skew_ms)
        except DecodeError as error:
            return Outcome(OutcomeKind.FAILED, FailureReason.UNKNOWN, f"not an answer: {error}")
        except Failed as error:
            return Outcome(OutcomeKind.FAILED, error.reason, error.detail)
        own = self._own_proof()
        if own is None:
            return AskReveal(record.to_bytes(ChallengeRevealRequest(challenge_id=self.id)))
        return self._judged(lambda: own)

    def revealed(self, peer: PeerId, data: bytes) -> Outcome | None:
        """What ``peer`` showed."""
        if peer != self.target:
            return None
        try:
            reveal = record.from_bytes(ChallengeRevealResponse, data, size_max=RPC_BODY_BYTES_MAX)
        except DecodeError as error:
            return Outcome(OutcomeKind.FAILED, FailureReason.UNKNOWN, f"not a reveal: {error}")
        self.was_revealed = True
        return self._judged(lambda: open_reveal(self.question, reveal, layout=self._rules.layout))

    def silent(self, *, is_connected: bool) -> Outcome:
        """No answer came in time, or the target asked to be asked later."""
        if not is_connected and self.receipt is None:
            return Outcome(OutcomeKind.OFFLINE, None, "not connected")
        if self.attempts >= self._rules.attempts_max:
            return Outcome(OutcomeKind.FAILED, FailureReason.TIMEOUT, f"no answer in {self.attempts} attempts")
        where = "no answer in time" if self.receipt is None else "committed, and then no reveal in time"
        return Outcome(OutcomeKind.CONTAINED, None, where)

    def refused(self, detail: str) -> Outcome:
        """The target refused for good."""
        return Outcome(OutcomeKind.FAILED, FailureReason.UNKNOWN, f"refused: {detail}")

    def _judged(self, proof: Callable[[], Proof]) -> Outcome:
        assert self.receipt is not None
        try:
            check_proof(self.question, self.receipt, proof())
        except Failed as error:
            return Outcome(OutcomeKind.FAILED, error.reason, error.detail)
        return Outcome(OutcomeKind.PASSED)

    def _own_proof(self) -> Proof | None:
        """The same range of a copy held here; none if there is no sound one: then the target must reveal."""
        if self._proof is None:
            try:
                self._proof = find_range(self.question, self._own, layout=self._rules.layout)
            except (BlobNotFound, BlobHashMismatch, OSError, Failed):
                return None
        return self._proof

    def _open(self) -> StorageChallenge:
        if self._given is None:
            raise LocalError("an answer before the question")
        return self._given
