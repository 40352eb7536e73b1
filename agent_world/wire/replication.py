"""Messages of protocols/replication: what the world's single writer puts where, and how others get it."""

from __future__ import annotations

from enum import StrEnum

import attrs

from agent_world.wire.cid import Cid
from agent_world.wire.ids import U16, U64, TimeMs, ValidatorId, WorldId
from agent_world.wire.record import V1


@attrs.frozen(slots=True, kw_only=True)
class FileReplicationRecord:
    """Body of a ``Signed`` by the validator key of the lease's holder: this content, or nothing, stands at this path.

    Records have an order: by term, and within a term by sequence, without a gap.
    """

    v: U16 = U16(V1)
    world_id: WorldId
    writer_id: ValidatorId
    writer_epoch: U64
    """Term of the lease under which it is written; from 1."""
    sequence: U64
    """Place within the term; from 1."""
    prev_epoch: U64
    """Term of the record before it that its writer had; 0 for the first of the world."""
    prev_sequence: U64
    """Sequence of that one; 0 for the first of the world."""
    height: U64
    """Committed height whose state names the writer as holder of the lease with this term."""
    path: str
    """Normal form: segments of the path index joined by ``/``."""
    content: Cid | None
    """The content, or the manifest of a file; null: the file is removed."""
    size_bytes: U64
    """Of the content; of a file all its bytes, of a removal 0."""
    updated_at_ms: TimeMs
    """The writer's time; of a commit the block's."""


class RecordOutcome(StrEnum):
    """What became of a record that was offered."""

    TAKEN = "taken"
    """It is the next one."""
    KNOWN = "known"
    """It, or a later one of its term, is here."""
    MISSING = "missing"
    """Earlier ones are missing here; they are asked for."""
    WAITING = "waiting"
    """The chain here has not reached its height."""
    SUPERSEDED = "superseded"
    """A higher term has been granted: its writer is no longer the writer."""


@attrs.frozen(slots=True, kw_only=True)
class OfferRecordRequest:
    """offer_record: the writer shows its newest record to a neighbour."""

    record: bytes
    """Encoded Signed around the FileReplicationRecord."""


@attrs.frozen(slots=True, kw_only=True)
class OfferRecordResponse:
    """What became of it, who is the writer, and where the record log of the peer ends."""

    outcome: RecordOutcome
    term: U64
    """Last term that the peer's chain has granted."""
    holder_id: ValidatorId | None
    """Who holds the lease there; null for nobody."""
    last_epoch: U64
    last_sequence: U64


@attrs.frozen(slots=True, kw_only=True)
class GetRecordsRequest:
    """get_records: the records after a place, 0 and 0 for all."""

    world_id: WorldId
    after_epoch: U64
    after_sequence: U64


@attrs.frozen(slots=True, kw_only=True)
class GetRecordsResponse:
    """In order, as many as fit; none if there are no later ones here."""

    records: tuple[bytes, ...]
    """Encoded Signed, each around a FileReplicationRecord."""
    term: U64
    holder_id: ValidatorId | None


@attrs.frozen(slots=True, kw_only=True)
class FetchCommitRequest:
    """fetch_commit: the record of a committed height."""

    world_id: WorldId
    height: U64


@attrs.frozen(slots=True, kw_only=True)
class FetchCommitResponse:
    """The record without its content, which is a blob."""

    record: bytes
    """Encoded Signed around the FileReplicationRecord at ``consensus/commits/<height>``."""
