"""protocols/replication: the writer's records by gossip, offered, and asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent_world.distfs.replication import Place
from agent_world.errors import ErrorCode, Ignored, Refused, RemoteError
from agent_world.net.interface import Verdict
from agent_world.wire import record
from agent_world.wire.ids import U64, PeerId, ValidatorId, WorldId
from agent_world.wire.limits import HEADER_BYTES_MAX, MIB, RPC_INLINE_BYTES_MAX
from agent_world.wire.replication import (
    FetchCommitRequest,
    FetchCommitResponse,
    GetRecordsRequest,
    GetRecordsResponse,
    OfferRecordRequest,
    OfferRecordResponse,
    RecordOutcome,
)


class ReplicationView(Protocol):
    """What the handler needs of the node's record log."""

    world_id: WorldId

    def take(self, data: bytes, source: PeerId) -> RecordOutcome:
        """Judge a record and keep it for applying; raises RemoteError (W1 to W8) for one that is none."""
        ...

    def committed_lease(self) -> tuple[U64, ValidatorId | None]:
        """Last term that the chain here has granted, and who holds the lease."""
        ...

    def place(self) -> Place:
        """Where the log here ends."""
        ...

    def records_after(self, place: Place) -> Sequence[bytes]:
        """Signed records after a place, in order."""
        ...

    def commit_record(self, height: int) -> bytes | None:
        """The signed record of a committed height."""
        ...


class ReplicationHandler:
    """Decodes and judges; what is true and new is kept by the view.

    Who asks is known by the channel, which is encrypted to this node and authenticated, and every request ends with
    its deadline: so none can be replayed or handed on (K-8.11), and nothing in them is signed.
    """

    def __init__(self, view: ReplicationView) -> None:
        self._view = view

    def validate(self, publisher: PeerId, data: bytes) -> Verdict:
        """Gossip on ``aw.<world>.replication``."""
        try:
            outcome = self._view.take(data, publisher)
        except Ignored:
            return Verdict.IGNORE
        except RemoteError:
            return Verdict.REJECT
        # [IGNORE] W6: the chain here has reached ``height``; before that nobody can say who may write.
        # [IGNORE] W9: its term is the last one that the chain here has granted.
        return Verdict.ACCEPT if outcome in (RecordOutcome.TAKEN, RecordOutcome.MISSING) else Verdict.IGNORE

    async def serve_offer(self, peer: PeerId, data: bytes) -> bytes:
        """offer_record: a superseded writer is told so, with the term and the holder that this node knows of."""
        request = record.from_bytes(OfferRecordRequest, data, size_max=HEADER_BYTES_MAX)
        outcome = self._view.take(request.record, peer)
        term, holder_id = self._view.committed_lease()
        epoch, sequence = self._view.place()
        return record.to_bytes(
            OfferRecordResponse(
                outcome=outcome,
                term=term,
                holder_id=holder_id,
                last_epoch=U64(epoch),
                last_sequence=U64(sequence),
            )
        )

    async def serve_records(self, _peer: PeerId, data: bytes) -> bytes:
        """get_records."""
        request = record.from_bytes(GetRecordsRequest, data, size_max=HEADER_BYTES_MAX)
        self._check_world(request.world_id)
        records = self._view.records_after((request.after_epoch, request.after_sequence))
        term, holder_id = self._view.committed_lease()
        return record.to_bytes(GetRecordsResponse(records=tuple(records), term=term, holder_id=holder_id))

    async def serve_commit(self, _peer: PeerId, data: bytes) -> bytes:
        """fetch_commit; raises Refused, ERR_NOT_FOUND, so that the asker goes to the next peer (K-8.7)."""
        request = record.from_bytes(FetchCommitRequest, data, size_max=HEADER_BYTES_MAX)
        self._check_world(request.world_id)
        found = self._view.commit_record(request.height)
        # [REJECT] W12: the height's record is here.
        if found is None:
            raise Refused(ErrorCode.NOT_FOUND, f"no record of height {request.height} here", rule="W12")
        return record.to_bytes(FetchCommitResponse(record=found))

    def _check_world(self, world_id: WorldId) -> None:
        # [REJECT] W11: the request is for this world.
        if world_id != self._view.world_id:
            raise Refused(ErrorCode.BAD_REQUEST, f"no world {world_id!r} here", rule="W11")


def open_offered(answer: bytes) -> OfferRecordResponse:
    """What a peer made of a record; raises DecodeError."""
    return record.from_bytes(OfferRecordResponse, answer, size_max=HEADER_BYTES_MAX)


def open_records(answer: bytes) -> GetRecordsResponse:
    """The records in an answer, none of them checked yet; raises DecodeError."""
    return record.from_bytes(GetRecordsResponse, answer, size_max=MIB)


def open_commit(answer: bytes) -> bytes:
    """The signed record in an answer, not checked yet; raises DecodeError."""
    return record.from_bytes(FetchCommitResponse, answer, size_max=RPC_INLINE_BYTES_MAX).record
