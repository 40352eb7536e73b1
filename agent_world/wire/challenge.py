"""Messages of protocols/challenge: a storage node is asked to show that it can read what it should hold."""

from __future__ import annotations

from enum import StrEnum

import attrs

from agent_world.wire.cid import Cid
from agent_world.wire.ids import U16, U32, U64, Hash32, PeerId, TimeMs, WorldId
from agent_world.wire.record import V1


class FailureReason(StrEnum):
    """Why a challenge failed; the labels and their order are those of the reference system"""

    HASH_MISMATCH = "HASH_MISMATCH"
    """Other bytes than the content's."""
    MISSING_SAMPLE = "MISSING_SAMPLE"
    """The content, or the range asked for, is not there."""
    READ_IO_ERROR = "READ_IO_ERROR"
    """The disk did not give it."""
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    """The answer is not one of that node to this question."""
    TIMEOUT = "TIMEOUT"
    """No answer in time, however often the question was put."""
    UNKNOWN = "UNKNOWN"
    """Anything else."""


class SampleSource(StrEnum):
    """Where a responder read the range, as it says; the reference system knows further ones."""

    UNKNOWN = "unknown"
    LOCAL_STORE_INDEX = "local_store_index"


@attrs.frozen(slots=True, kw_only=True)
class ChallengeQuestion:
    """What is asked; its hash is the challenge's id. Which range is meant follows from it and the content's size."""

    v: U16 = U16(V1)
    world_id: WorldId
    challenger: PeerId
    target: PeerId
    content: Cid
    max_sample_bytes: U32
    """Longest range, 1 to the size of a blob."""
    seed_height: U64
    seed_hash: Hash32
    """Hash of the block at ``seed_height``, which nobody knew before it was committed."""
    nonce: Hash32
    """Drawn by the challenger; no answer to another question fits."""


@attrs.frozen(slots=True, kw_only=True)
class StorageChallenge:
    """Body of a ``Signed`` by the challenger's node key: one putting of a question."""

    v: U16 = U16(V1)
    question: ChallengeQuestion
    attempt: U16
    """0 at first; a question that was not answered in time is put again, unchanged, with the next number."""
    issued_at_ms: TimeMs
    expires_at_ms: TimeMs


@attrs.frozen(slots=True, kw_only=True)
class ChallengeReceipt:
    """Body of a ``Signed`` by the target's node key: its commitment to the range, or why it has none."""

    v: U16 = U16(V1)
    challenge_id: Hash32
    attempt: U16
    size_bytes: U64
    """Of the whole content; like the two below 0 in a failure."""
    sample_offset: U64
    sample_size_bytes: U32
    commitment: Hash32 | None
    """BLAKE3 with a key that the question gives, over its nonce and the range; none in a failure."""
    sample_source: SampleSource
    failure_reason: FailureReason | None
    responded_at_ms: TimeMs


@attrs.frozen(slots=True, kw_only=True)
class ChallengeRevealRequest:
    """challenge_reveal."""

    challenge_id: Hash32


@attrs.frozen(slots=True, kw_only=True)
class ChallengeRevealResponse:
    """What proves the commitment to who does not hold the content."""

    path: tuple[bytes, ...]
    """Nodes of the file manifest from the topmost down to the one that links to the chunk; none for a blob."""
    leaf: bytes
    """The chunk in which the range lies, or the whole blob."""
