"""The journal of a block: its events in segments, and the index that links them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.errors import ChainError
from agent_world.wire import cbor, record
from agent_world.wire.block import Event, JournalIndex, JournalSegment, JournalSegmentRef
from agent_world.wire.cid import Cid
from agent_world.wire.ids import U64, Hash32
from agent_world.wire.limits import BLOB_BYTES_MAX, SEGMENT_EVENTS_MAX
from agent_world.world.trie import Blobs, NodeSource


def event_root(events: Sequence[Event]) -> Hash32:
    """BLAKE3 of the encoded list of all events of a block."""
    return hash32(cbor.encode(record.unstructure(tuple(events))))


def segment_journal(events: Sequence[Event], *, segment_events_max: int = SEGMENT_EVENTS_MAX) -> tuple[Cid, Blobs]:
    """Link to the JournalIndex, and the blobs of index and segments; no events give an index without segments."""
    blobs: Blobs = {}
    refs = []
    for start in range(0, len(events), segment_events_max):
        group = tuple(events[start : start + segment_events_max])
        data = record.to_bytes(JournalSegment(events=group))
        content = cid_of(data)
        blobs[content.digest] = data
        refs.append(
            JournalSegmentRef(
                from_event_id=group[0].event_id,
                to_event_id=group[-1].event_id,
                content=content,
                size_bytes=U64(len(data)),
            )
        )
    index = record.to_bytes(JournalIndex(segments=tuple(refs)))
    blobs[cid_of(index).digest] = index
    return cid_of(index), blobs


def assemble_journal(journal_ref: Cid, height: int, source: NodeSource) -> tuple[Event, ...]:
    """The events behind a JournalIndex link; ``source`` verifies what it reads.

    Raises BlobNotFound, DecodeError, or ChainError naming the segment that is empty, of another size or range, or
    does not follow the one before.
    """
    index = record.from_bytes(JournalIndex, source(journal_ref.digest), size_max=BLOB_BYTES_MAX)
    events: list[Event] = []
    for number, ref in enumerate(index.segments):
        data = source(ref.content.digest)
        segment = record.from_bytes(JournalSegment, data, size_max=BLOB_BYTES_MAX).events
        what = f"journal segment {number}"
        if len(data) != ref.size_bytes:
            raise ChainError(height, what, f"{len(data)} bytes, the index says {ref.size_bytes}")
        if not 1 <= len(segment) <= SEGMENT_EVENTS_MAX:
            raise ChainError(height, what, f"{len(segment)} events; a segment has 1-{SEGMENT_EVENTS_MAX}")
        if (segment[0].event_id, segment[-1].event_id) != (ref.from_event_id, ref.to_event_id):
            raise ChainError(height, what, "its first and last event are not those that the index says")
        events.extend(segment)
    for before, event in itertools.pairwise(events):
        if event.event_id != before.event_id + 1:
            raise ChainError(height, "journal", f"event {event.event_id} follows event {before.event_id}")
    return tuple(events)
