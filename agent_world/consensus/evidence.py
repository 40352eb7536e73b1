"""Evidence of equivocation: made of two messages, checked by a pure function (D4)."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.crypto.signing import Domain, is_valid
from agent_world.errors import DecodeError, RemoteError
from agent_world.wire import record
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.evidence import EquivocationEvidence, EvidenceKind
from agent_world.wire.ids import Hash32, PublicKey, ValidatorId, WorldId
from agent_world.wire.limits import EVIDENCE_BYTES_MAX, PROPOSAL_BYTES_MAX
from agent_world.wire.signed import Signed

KIND_OF: Final = {
    Step.PROPOSE: EvidenceKind.DOUBLE_PROPOSAL,
    Step.PREVOTE: EvidenceKind.DOUBLE_PREVOTE,
    Step.PRECOMMIT: EvidenceKind.DOUBLE_PRECOMMIT,
}


@attrs.frozen(slots=True, kw_only=True)
class Equivocation:
    """What a piece of evidence proves: the holder of ``key`` signed two messages for one place."""

    key: PublicKey
    height: int
    round: int
    kind: EvidenceKind


def make_evidence(world_id: WorldId, validator_id: ValidatorId, first: bytes, second: bytes) -> EquivocationEvidence:
    """Evidence of two encoded Signed messages in either order; raises RemoteError (E1) if they are none."""
    _signed, body = _open(first)
    message_a, message_b = sorted((first, second))
    return EquivocationEvidence(
        world_id=world_id,
        validator_id=validator_id,
        kind=KIND_OF[_step(body)],
        message_a=message_a,
        message_b=message_b,
    )


def open_evidence(data: bytes) -> EquivocationEvidence:
    """The evidence in a message; raises DecodeError (E1)."""
    # [REJECT] E1: a strict EquivocationEvidence of at most EVIDENCE_BYTES_MAX around two strict signed messages.
    try:
        return record.from_bytes(EquivocationEvidence, data, size_max=EVIDENCE_BYTES_MAX)
    except DecodeError as error:
        raise DecodeError("E1", f"{error.rule}: {error.detail}") from None


def verify_evidence(evidence: EquivocationEvidence, world_id: WorldId, genesis_hash: Hash32) -> Equivocation:
    """What the evidence proves, whoever brought it and whenever; raises RemoteError with the rule broken, E1 to E6.

    Whether the key belongs to the validator that it names is for the reader of the state to say (E7).
    """
    first, body_a = _open(evidence.message_a)
    second, body_b = _open(evidence.message_b)
    # [REJECT] E2: evidence and messages are of this world.
    if {evidence.world_id, body_a.world_id, body_b.world_id} != {world_id}:
        raise RemoteError("E2", "evidence of another world")
    # [REJECT] E3: one key has signed both.
    if first.key != second.key:
        raise RemoteError("E3", "the two messages are by different keys")
    # [REJECT] E4: both are for one height, round and step, and the kind says which.
    if _place(body_a) != _place(body_b) or evidence.kind is not KIND_OF[_step(body_a)]:
        raise RemoteError("E4", f"{_place(body_a)} and {_place(body_b)} are no {evidence.kind}")
    # [REJECT] E5: they say different things, in the order of their bytes.
    if first.body == second.body or evidence.message_a >= evidence.message_b:
        raise RemoteError("E5", "the two messages say the same, or are in the wrong order")
    # [REJECT] E6: both signatures verify.
    for signed, body in ((first, body_a), (second, body_b)):
        domain = Domain.PROPOSAL if isinstance(body, Proposal) else Domain.VOTE
        if not is_valid(domain, genesis_hash, signed.body, signed.key, signed.sig):
            raise RemoteError("E6", "a signature does not verify")
    return Equivocation(key=first.key, height=body_a.height, round=body_a.round, kind=evidence.kind)


def _open(data: bytes) -> tuple[Signed, Proposal | Vote]:
    try:
        signed = record.from_bytes(Signed, data, size_max=PROPOSAL_BYTES_MAX)
        return signed, _body(signed)
    except DecodeError as error:
        raise DecodeError("E1", f"{error.rule}: {error.detail}") from None


def _body(signed: Signed) -> Proposal | Vote:
    try:
        vote = record.from_bytes(Vote, signed.body, size_max=PROPOSAL_BYTES_MAX)
    except DecodeError:
        return record.from_bytes(Proposal, signed.body, size_max=PROPOSAL_BYTES_MAX)
    if vote.step is Step.PROPOSE:
        raise DecodeError("V3", "a vote of step propose")
    return vote


def _step(body: Proposal | Vote) -> Step:
    return Step.PROPOSE if isinstance(body, Proposal) else body.step


def _place(body: Proposal | Vote) -> tuple[int, int, Step]:
    return body.height, body.round, _step(body)
