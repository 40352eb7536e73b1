"""wire/consensus.py: proposals, votes, certificates."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from agent_world.testing.examples import example
from agent_world.wire import limits, record
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import (
    CommitCertificate,
    Proposal,
    Step,
    ValidatorEntry,
    ValidatorSetRecord,
    Vote,
    VoteSignature,
)
from agent_world.wire.ids import PublicKey, Signature
from agent_world.wire.signed import Signed


@pytest.mark.parametrize("kind", [CommitCertificate, Proposal, ValidatorEntry, ValidatorSetRecord, Vote, VoteSignature])
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


def test_steps() -> None:
    assert [step.value for step in Step] == ["propose", "prevote", "precommit"]


def test_a_certificate_of_the_largest_set_is_within_its_limit() -> None:
    signature = VoteSignature(key=PublicKey(b"\xff" * 32), sig=Signature(b"\xff" * 64))
    vote = record.to_bytes(example(Vote, "highest"))
    certificate = CommitCertificate(body=vote, signatures=(signature,) * limits.VALIDATORS_MAX)
    assert len(record.to_bytes(certificate)) < limits.CERTIFICATE_BYTES_MAX


def test_a_proposal_of_the_largest_block_is_within_its_limit() -> None:
    proposal = attrs.evolve(
        example(Proposal, "highest"),
        block=bytes(limits.HEADER_BYTES_MAX),
        actions=(ContentHash(bytes(32)),) * limits.BLOCK_ACTIONS_MAX,
    )
    signed = Signed(body=record.to_bytes(proposal), key=PublicKey(bytes(32)), sig=Signature(bytes(64)))
    assert len(record.to_bytes(signed)) < limits.PROPOSAL_BYTES_MAX


def test_the_largest_vote_is_within_its_limit() -> None:
    signed = Signed(body=record.to_bytes(example(Vote, "highest")), key=PublicKey(bytes(32)), sig=Signature(bytes(64)))
    assert len(record.to_bytes(signed)) < limits.VOTE_BYTES_MAX


def test_nil_and_a_block_are_different_votes() -> None:
    vote = example(Vote, "typical")
    assert vote.block_hash is not None
    assert record.to_bytes(vote) != record.to_bytes(attrs.evolve(vote, block_hash=None))
