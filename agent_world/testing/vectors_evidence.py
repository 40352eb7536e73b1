"""Vectors of protocols/evidence: two messages that prove an equivocation, and ones that break one E rule."""

from __future__ import annotations

from typing import Any, Final

import attrs

from agent_world.consensus.evidence import make_evidence
from agent_world.crypto.hashing import hash32
from agent_world.crypto.signing import Domain, sign_record
from agent_world.testing.examples import key_of
from agent_world.testing.vectors_action import example_genesis
from agent_world.wire import record
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.evidence import EquivocationEvidence, EvidenceKind
from agent_world.wire.ids import U32, U64, Hash32, ValidatorId, WorldId
from agent_world.world.genesis import genesis_hash

_WORLD: Final = WorldId("w1")
_LIAR: Final = ValidatorId("b")


def _vote(
    choice: bytes | None, step: Step = Step.PREVOTE, *, round: int = 1, by: str = "b", genesis: Hash32 | None = None
) -> bytes:
    block_hash = None if choice is None else hash32(choice)
    body = Vote(world_id=_WORLD, height=U64(7), round=U32(round), step=step, block_hash=block_hash)
    return sign_record(Domain.VOTE, genesis or genesis_hash(example_genesis()), body, key_of(f"validator {by}"))


def _proposal(block: bytes) -> bytes:
    body = Proposal(world_id=_WORLD, height=U64(7), round=U32(1), valid_round=None, block=block, actions=())
    return sign_record(Domain.PROPOSAL, genesis_hash(example_genesis()), body, key_of("validator b"))


def _of(first: bytes, second: bytes, kind: EvidenceKind = EvidenceKind.DOUBLE_PREVOTE) -> EquivocationEvidence:
    low, high = sorted((first, second))
    return EquivocationEvidence(world_id=_WORLD, validator_id=_LIAR, kind=kind, message_a=low, message_b=high)


def evidence_vectors() -> dict[str, Any]:
    """The file ``evidence/vectors/evidence.json``."""
    pairs = (
        ("prevotes for two blocks", _vote(b"x"), _vote(b"y")),
        ("a prevote for a block and one for none", _vote(b"x"), _vote(None)),
        ("precommits for two blocks", _vote(b"x", Step.PRECOMMIT), _vote(b"y", Step.PRECOMMIT)),
        ("two proposals", _proposal(b"x"), _proposal(b"y")),
    )
    cases: list[dict[str, Any]] = []
    for what, first, second in pairs:
        made = make_evidence(_WORLD, _LIAR, first, second)
        cases.append({"id": what, "evidence": record.to_bytes(made).hex(), "kind": made.kind.value})
    cases += [{"id": what, "evidence": record.to_bytes(bad).hex(), "rule": rule} for what, bad, rule in _bad()]
    return {
        "about": "Whether `evidence` proves that one key signed two messages for one height, round and step in the "
        "world of `genesis`: with `kind`, or not by exactly the rule `rule`.",
        "genesis": record.to_bytes(example_genesis()).hex(),
        "genesis_hash": genesis_hash(example_genesis()).hex(),
        "cases": cases,
    }


def _bad() -> list[tuple[str, EquivocationEvidence, str]]:
    good = _of(_vote(b"x"), _vote(b"y"))
    both = EvidenceKind.DOUBLE_PROPOSAL
    return [
        ("a message that is none", attrs.evolve(good, message_a=b""), "E1"),
        ("votes of step propose", _of(_vote(b"x", Step.PROPOSE), _vote(b"y", Step.PROPOSE), both), "E1"),
        ("another world", attrs.evolve(good, world_id=WorldId("w2")), "E2"),
        ("two keys", _of(_vote(b"x"), _vote(b"y", by="c")), "E3"),
        ("two rounds", _of(_vote(b"x"), _vote(b"y", round=2)), "E4"),
        ("two steps", _of(_vote(b"x"), _vote(b"y", Step.PRECOMMIT)), "E4"),
        ("a vote and a proposal", _of(_vote(b"x"), _proposal(b"y")), "E4"),
        ("another kind", attrs.evolve(good, kind=EvidenceKind.DOUBLE_PRECOMMIT), "E4"),
        ("one message twice", _of(_vote(b"x"), _vote(b"x")), "E5"),
        (
            "the wrong order",
            attrs.evolve(good, message_a=good.message_b, message_b=good.message_a),
            "E5",
        ),
        ("signed in a world of the same name", _of(_vote(b"x"), _vote(b"y", genesis=hash32(b"other"))), "E6"),
    ]
