"""Messages of protocols/consensus: proposals, votes and commit certificates (D4)."""

from __future__ import annotations

from enum import StrEnum

import attrs

from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import U16, U32, U64, Hash32, PublicKey, Signature, ValidatorId, WorldId
from agent_world.wire.record import V1


class Step(StrEnum):
    """What a validator may sign at most once per height and round."""

    PROPOSE = "propose"
    PREVOTE = "prevote"
    PRECOMMIT = "precommit"


@attrs.frozen(slots=True, kw_only=True)
class Proposal:
    """Body of a signed proposal of round ``round``."""

    v: U16 = U16(V1)
    world_id: WorldId
    height: U64
    round: U32
    valid_round: U32 | None
    """Round in which the block got prevotes of the required stake; none for a fresh block."""
    block: bytes
    """Encoded WorldBlock."""
    actions: tuple[ContentHash, ...]
    """Ids of the block's actions in order; bodies that a validator lacks are fetched by these hashes."""


@attrs.frozen(slots=True, kw_only=True)
class Vote:
    """Body of a signed prevote or precommit.

    It does not name the validator: the signing key does. So all votes for one block in one round have the same
    body, and a certificate carries it once.
    """

    v: U16 = U16(V1)
    world_id: WorldId
    height: U64
    round: U32
    step: Step
    """prevote or precommit."""
    block_hash: Hash32 | None
    """None is a vote for nil: no block in this round."""


@attrs.frozen(slots=True, kw_only=True)
class VoteSignature:
    """One validator's signature over a vote's body."""

    key: PublicKey
    sig: Signature


@attrs.frozen(slots=True, kw_only=True)
class CommitCertificate:
    """Precommits of at least the required stake for one block: what makes a head more than a rumour."""

    v: U16 = U16(V1)
    body: bytes
    """Encoded Vote, step precommit."""
    signatures: tuple[VoteSignature, ...]
    """Ascending by key, no key twice."""


@attrs.frozen(slots=True, kw_only=True)
class ValidatorEntry:
    """One member of a validator set."""

    validator_id: ValidatorId
    public_key: PublicKey
    stake: U64


@attrs.frozen(slots=True, kw_only=True)
class ValidatorSetRecord:
    """A validator set as it is hashed into block headers and stored in the state."""

    v: U16 = U16(V1)
    validators: tuple[ValidatorEntry, ...]
    """Ascending by validator_id."""
    supermajority_numerator: U64
    supermajority_denominator: U64
