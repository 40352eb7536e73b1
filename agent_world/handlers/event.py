"""protocols/event: where the journal and the receipts of a block are stored; the segments are blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent_world.errors import BlobHashMismatch, BlobNotFound, ErrorCode, Refused
from agent_world.wire import record
from agent_world.wire.blob import BlobRef
from agent_world.wire.block import (
    GetJournalSegmentRequest,
    GetJournalSegmentResponse,
    GetReceiptSegmentRequest,
    GetReceiptSegmentResponse,
    JournalSegmentRef,
)
from agent_world.wire.cid import Cid
from agent_world.wire.ids import U64, PeerId, WorldId
from agent_world.wire.limits import HEADER_BYTES_MAX


class JournalView(Protocol):
    """Journal and receipts of the committed chain."""

    world_id: WorldId

    def height_of_event(self, event_id: int) -> int | None:
        """The height whose block holds this event; None if no block here does."""
        ...

    def journal_segments(self, height: int) -> tuple[Cid, Sequence[JournalSegmentRef]] | None:
        """The block's JournalIndex and what it lists; None if the height is not held here. Raises DataError."""
        ...

    def receipt_segment(self, height: int) -> BlobRef | None:
        """The block's ReceiptList; None if the height is not held here. Raises DataError."""
        ...


class EventHandler:
    """Serves get_journal_segment and get_receipt_segment."""

    def __init__(self, journal: JournalView) -> None:
        self._journal = journal

    async def serve_journal_segment(self, _peer: PeerId, data: bytes) -> bytes:
        """get_journal_segment."""
        request = record.from_bytes(GetJournalSegmentRequest, data, size_max=HEADER_BYTES_MAX)
        height = self._height(request)
        try:
            found = self._journal.journal_segments(height)
        except (BlobNotFound, BlobHashMismatch):
            raise _damaged() from None
        if found is None:
            raise _not_here(height)
        journal_ref, segments = found
        first = request.from_event_id or 0
        return record.to_bytes(
            GetJournalSegmentResponse(
                height=U64(height),
                journal_ref=journal_ref,
                segments=tuple(segment for segment in segments if segment.to_event_id >= first),
            )
        )

    async def serve_receipt_segment(self, _peer: PeerId, data: bytes) -> bytes:
        """get_receipt_segment."""
        request = record.from_bytes(GetReceiptSegmentRequest, data, size_max=HEADER_BYTES_MAX)
        height = self._height(request)
        try:
            segment = self._journal.receipt_segment(height)
        except (BlobNotFound, BlobHashMismatch):
            raise _damaged() from None
        if segment is None:
            raise _not_here(height)
        return record.to_bytes(GetReceiptSegmentResponse(height=U64(height), segment=segment))

    def _height(self, request: GetJournalSegmentRequest | GetReceiptSegmentRequest) -> int:
        # [REJECT] J1: the request is for this world.
        if request.world_id != self._journal.world_id:
            raise Refused(ErrorCode.BAD_REQUEST, f"no world {request.world_id!r} here", rule="J1")
        # [REJECT] J2: exactly one of event and height is named.
        if (request.from_event_id is None) == (request.height is None):
            raise Refused(ErrorCode.BAD_REQUEST, "name either from_event_id or height", rule="J2")
        if request.height is not None:
            return request.height
        assert request.from_event_id is not None, "one of the two is given"
        height = self._journal.height_of_event(request.from_event_id)
        # [REJECT] J3: the event or the height is in a block that is held here.
        if height is None:
            raise Refused(ErrorCode.NOT_FOUND, f"no event {request.from_event_id} here", rule="J3")
        return height


def _not_here(height: int) -> Refused:
    return Refused(ErrorCode.NOT_FOUND, f"height {height} is not held here", rule="J3")


def _damaged() -> Refused:
    # [IGNORE] J4: the stored index verifies.
    return Refused(ErrorCode.NOT_AVAILABLE, "the stored index is damaged; ask elsewhere", rule="J4")
