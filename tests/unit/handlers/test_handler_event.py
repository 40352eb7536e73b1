from __future__ import annotations

from typing import Any

import pytest

from agent_world.errors import BlobHashMismatch, ErrorCode, Refused
from agent_world.handlers.event import EventHandler
from agent_world.testing.examples import example
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

WORLD = WorldId("w")
REF = example(JournalSegmentRef, "typical")


def segment(first: int, last: int) -> JournalSegmentRef:
    return JournalSegmentRef(from_event_id=U64(first), to_event_id=U64(last), content=REF.content, size_bytes=U64(9))


class Journal:
    """Height 1 has events 1 to 300 in two segments, height 2 none, and the index of height 3 is damaged."""

    world_id = WORLD

    def height_of_event(self, event_id: int) -> int | None:
        return 1 if 1 <= event_id <= 300 else None

    def journal_segments(self, height: int) -> tuple[Cid, tuple[JournalSegmentRef, ...]] | None:
        if height == 3:
            raise BlobHashMismatch("damaged")
        return {1: (REF.content, (segment(1, 256), segment(257, 300))), 2: (REF.content, ())}.get(height)

    def receipt_segment(self, height: int) -> BlobRef | None:
        if height == 3:
            raise BlobHashMismatch("damaged")
        return BlobRef(content=REF.content, size_bytes=U64(height)) if height < 3 else None


def fields(event: int | None, height: int | None, world: WorldId = WORLD) -> dict[str, Any]:
    return {
        "world_id": world,
        "from_event_id": None if event is None else U64(event),
        "height": None if height is None else U64(height),
    }


@pytest.mark.parametrize(
    ("event", "height", "expected"),
    [
        (1, None, (1, [1, 257])),
        (256, None, (1, [1, 257])),
        (257, None, (1, [257])),
        (300, None, (1, [257])),
        (None, 1, (1, [1, 257])),
        (None, 2, (2, [])),
    ],
)
async def test_segments(peer: PeerId, event: int | None, height: int | None, expected: tuple[int, list[int]]) -> None:
    request = record.to_bytes(GetJournalSegmentRequest(**fields(event, height)))
    answer = await EventHandler(Journal()).serve_journal_segment(peer, request)
    response = record.from_bytes(GetJournalSegmentResponse, answer, size_max=9_999)
    assert (response.height, [item.from_event_id for item in response.segments]) == expected
    assert response.journal_ref == REF.content


@pytest.mark.parametrize(("event", "height", "expected"), [(7, None, 1), (None, 2, 2)])
async def test_receipts(peer: PeerId, event: int | None, height: int | None, expected: int) -> None:
    request = record.to_bytes(GetReceiptSegmentRequest(**fields(event, height)))
    answer = await EventHandler(Journal()).serve_receipt_segment(peer, request)
    response = record.from_bytes(GetReceiptSegmentResponse, answer, size_max=9_999)
    assert (response.height, response.segment.size_bytes) == (expected, expected)


@pytest.mark.parametrize(
    ("event", "height", "world", "rule", "code"),
    [
        (1, None, "other", "J1", ErrorCode.BAD_REQUEST),
        (None, None, "w", "J2", ErrorCode.BAD_REQUEST),
        (1, 1, "w", "J2", ErrorCode.BAD_REQUEST),
        (301, None, "w", "J3", ErrorCode.NOT_FOUND),
        (None, 9, "w", "J3", ErrorCode.NOT_FOUND),
        (None, 3, "w", "J4", ErrorCode.NOT_AVAILABLE),
    ],
)
async def test_rules(
    peer: PeerId, event: int | None, height: int | None, world: str, rule: str, code: ErrorCode
) -> None:
    handler, given = EventHandler(Journal()), fields(event, height, WorldId(world))
    for serve, kind in (
        (handler.serve_journal_segment, GetJournalSegmentRequest),
        (handler.serve_receipt_segment, GetReceiptSegmentRequest),
    ):
        with pytest.raises(Refused) as caught:
            await serve(peer, record.to_bytes(kind(**given)))
        assert (caught.value.rule, caught.value.code) == (rule, code)
