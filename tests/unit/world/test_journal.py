from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of, content_hash, hash32, verify_blob
from agent_world.errors import BlobHashMismatch, BlobNotFound, ChainError, DecodeError
from agent_world.wire import cbor, record
from agent_world.wire.block import Event, JournalIndex, JournalSegment, JournalSegmentRef
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import U64, Hash32, Label
from agent_world.wire.limits import SEGMENT_EVENTS_MAX
from agent_world.world.journal import assemble_journal, event_root, segment_journal
from agent_world.world.trie import Blobs


def events(count: int, first: int = 1) -> tuple[Event, ...]:
    return tuple(
        Event(
            event_id=U64(first + number),
            height=U64(3),
            caused_by=Hash32(bytes(32)) if number % 2 else None,
            kind=Label("agent.moved"),
            payload_cbor=cbor.encode(number),
        )
        for number in range(count)
    )


def index_of(journal_ref: Cid, blobs: Blobs) -> JournalIndex:
    return record.from_bytes(JournalIndex, blobs[journal_ref.digest], size_max=1 << 20)


@given(count=st.integers(0, 12), size=st.integers(1, 5), first=st.integers(1, 2**63))
@settings(deadline=None, max_examples=60)
def test_what_was_segmented_is_assembled(count: int, size: int, first: int) -> None:
    journal = events(count, first)
    ref, blobs = segment_journal(journal, segment_events_max=size)
    assert assemble_journal(ref, 3, blobs.__getitem__) == journal
    assert all(content_hash(data) == digest for digest, data in blobs.items())
    assert len(index_of(ref, blobs).segments) == -(-count // size)


@pytest.mark.parametrize(("count", "segments"), [(0, 0), (1, 1), (256, 1), (257, 2), (512, 2), (513, 3)])
def test_a_segment_has_at_most_256_events(count: int, segments: int) -> None:
    ref, blobs = segment_journal(events(count))
    refs = index_of(ref, blobs).segments
    assert len(refs) == segments
    assert SEGMENT_EVENTS_MAX == 256
    assert [entry.from_event_id for entry in refs] == [1 + 256 * number for number in range(segments)]
    assert sum(entry.to_event_id - entry.from_event_id + 1 for entry in refs) == count
    assert all(entry.size_bytes == len(blobs[entry.content.digest]) for entry in refs)


def test_the_event_root_covers_every_event_in_order() -> None:
    journal = events(3)
    assert event_root(journal) == hash32(cbor.encode([record.unstructure(event) for event in journal]))
    assert len({event_root(journal), event_root(journal[:2]), event_root(journal[::-1]), event_root(())}) == 4


def _rewrite(blobs: Blobs, change: Callable[[list[JournalSegmentRef]], list[JournalSegmentRef]], ref: Cid) -> Cid:
    index = record.to_bytes(JournalIndex(segments=tuple(change(list(index_of(ref, blobs).segments)))))
    blobs[content_hash(index)] = index
    return cid_of(index)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda refs: refs[::-1], "event 3 follows event 6"),
        (lambda refs: [refs[0], refs[2]], "event 5 follows event 2"),
        (lambda refs: [refs[0], refs[0], *refs[1:]], "event 1 follows event 2"),
        (lambda refs: [attrs.evolve(refs[0], size_bytes=U64(1)), *refs[1:]], "the index says 1"),
        (lambda refs: [attrs.evolve(refs[0], to_event_id=U64(3)), *refs[1:]], "not those that the index says"),
        (lambda refs: [attrs.evolve(refs[0], from_event_id=U64(2)), *refs[1:]], "not those that the index says"),
    ],
)
def test_a_wrong_index_is_refused(
    change: Callable[[list[JournalSegmentRef]], list[JournalSegmentRef]], says: str
) -> None:
    ref, blobs = segment_journal(events(6), segment_events_max=2)
    with pytest.raises(ChainError, match=says):
        assemble_journal(_rewrite(blobs, change, ref), 3, blobs.__getitem__)


@pytest.mark.parametrize("count", [0, 257])
def test_a_segment_of_a_wrong_size_is_refused(count: int) -> None:
    data = record.to_bytes(JournalSegment(events=events(count)))
    blobs: Blobs = {content_hash(data): data}
    entry = JournalSegmentRef(
        from_event_id=U64(1), to_event_id=U64(max(count, 1)), content=cid_of(data), size_bytes=U64(len(data))
    )
    index = record.to_bytes(JournalIndex(segments=(entry,)))
    blobs[content_hash(index)] = index
    with pytest.raises(ChainError, match=f"segment 0: {count} events"):
        assemble_journal(cid_of(index), 3, blobs.__getitem__)


def test_junk_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        assemble_journal(cid_of(b"junk"), 3, lambda _: b"junk")


@given(count=st.integers(2, 9), place=st.floats(0, 1, exclude_max=True), how=st.sampled_from(["flip", "cut", "gone"]))
@settings(deadline=None, max_examples=60)
def test_a_segment_that_was_changed_cut_or_lost_gives_no_journal(count: int, place: float, how: str) -> None:  # T-2.14
    ref, blobs = segment_journal(events(count), segment_events_max=2)
    digest = index_of(ref, blobs).segments[int(place * -(-count // 2))].content.digest
    data = blobs.pop(digest)
    at = int(place * len(data))
    changed = {"flip": data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], "cut": data[:at]}
    if how != "gone":
        blobs[digest] = changed[how]

    def source(wanted: ContentHash) -> bytes:
        if wanted not in blobs:
            raise BlobNotFound(wanted.hex())
        return verify_blob(blobs[wanted], wanted)

    with pytest.raises((BlobNotFound, BlobHashMismatch)):
        assemble_journal(ref, 3, source)
