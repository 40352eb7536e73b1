"""A world saved as a folder: its head, its state and its events, as JSON and as content of DistFS (Gap 4).

The JSON forms are the fallback and for people; values are kept as their DAG-CBOR in hex, so that nothing is lost. Both
forms carry the head, whose height is the generation, and digests, so that neither is taken for the other's.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import ChainError, DataError, DecodeError
from agent_world.wire import cbor, record
from agent_world.wire.block import Event, JournalSegment, JournalSegmentRef
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import U64, Hash32, Label, WorldId
from agent_world.wire.jsonable import jsonable
from agent_world.wire.limits import BLOB_BYTES_MAX, SEGMENT_EVENTS_MAX, U64_MAX
from agent_world.wire.snapshot import StateChunkRef
from agent_world.world.journal import event_root
from agent_world.world.records import NAMESPACES
from agent_world.world.snapshot import encode_pack, open_pack, plan_packs, state_blobs
from agent_world.world.state import WorldState, state_of
from agent_world.world.trie import Blobs, NodeCache, NodeMissing, NodeSource

VERSION: Final = 1
Entry = tuple[Label, bytes, bytes]
"""Namespace, key, DAG-CBOR of the value."""
_HEX: Final = re.compile(r"([0-9a-f]{2})*")


@attrs.frozen(slots=True, kw_only=True)
class SavedHead:
    """What was saved; the same in every file of the folder."""

    world_id: WorldId
    genesis_hash: Hash32
    height: U64
    """The generation: of two forms the one with the higher height is newer."""
    block_hash: Hash32
    """Of the block at ``height``; the genesis hash at height 0."""
    state_root: Cid
    first_event_id: U64
    """Of the events that follow; a home that began from a snapshot has none before. 0 if there are none."""
    events: U64
    event_root: Hash32
    """``journal.event_root`` of all of them."""


@attrs.frozen(slots=True, kw_only=True)
class LoadedWorld:
    """A world that was read back, checked as a whole."""

    head: SavedHead
    blobs: Blobs
    """Every stored part of the state."""
    events: tuple[Event, ...]


def head_json(head: SavedHead) -> dict[str, Any]:
    """The head for JSON."""
    shown: dict[str, Any] = jsonable(record.unstructure(head))
    return {"version": VERSION, **shown}


def parse_head(found: Any, source: str) -> SavedHead:
    """Inverse of ``head_json``, other keys passed over; raises DataError naming ``source``."""
    if not isinstance(found, dict) or type(found.get("version")) is not int or found["version"] != VERSION:
        raise DataError(f"{source}: version {VERSION} is expected")
    try:
        return SavedHead(
            world_id=WorldId(str(found["world_id"])),
            genesis_hash=_hash(found["genesis_hash"]),
            height=_number(found["height"]),
            block_hash=_hash(found["block_hash"]),
            state_root=Cid.parse(str(found["state_root"])),
            first_event_id=_number(found["first_event_id"]),
            events=_number(found["events"]),
            event_root=_hash(found["event_root"]),
        )
    except (KeyError, ValueError, DecodeError) as error:
        raise DataError(f"{source}: {error!r} in what it says of the head") from None


def snapshot_lines(head: SavedHead, state: WorldState) -> Iterator[str]:
    """snapshot.json, an entry of the state a line."""
    yield from _lines(head, "entries", (_entry_json(*entry) for entry in state_entries(state)))


def journal_lines(head: SavedHead, events: Iterable[Event]) -> Iterator[str]:
    """journal.json, an event a line."""
    yield from _lines(head, "journal", (jsonable(record.unstructure(event)) for event in events))


def _lines(head: SavedHead, name: str, rows: Iterable[Any]) -> Iterator[str]:
    start = json.dumps(head_json(head), indent=1)
    yield f'{start[:-2]},\n "{name}": ['
    separator = "\n"
    for row in rows:
        yield f"{separator}  {json.dumps(row)}"
        separator = ",\n"
    yield "\n ]\n}\n"


def state_entries(state: WorldState) -> Iterator[Entry]:
    """Every entry of a state."""
    for namespace in sorted(state.roots):
        for key, value in state.items(namespace):
            yield namespace, key, cbor.encode(value)


def _entry_json(namespace: Label, key: bytes, value: bytes) -> dict[str, str]:
    return {
        "namespace": namespace,
        "key": key.decode(errors="replace"),
        "key_hex": key.hex(),
        "value_cbor": value.hex(),
    }


def parse_snapshot(text: str, source: str) -> tuple[SavedHead, list[Entry]]:
    """Head and entries of a snapshot.json; raises DataError."""
    found = _json(text, source)
    head = parse_head(found, source)
    rows = _rows(found, "entries", source)
    try:
        return head, [(Label(row["namespace"]), _hex(row["key_hex"]), _hex(row["value_cbor"])) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{source}: an entry is none: {error!r}") from None


def parse_journal(text: str, source: str) -> tuple[SavedHead, tuple[Event, ...]]:
    """Head and events of a journal.json; raises DataError."""
    found = _json(text, source)
    head = parse_head(found, source)
    try:
        events = tuple(_event(row) for row in _rows(found, "journal", source))
    except (KeyError, TypeError, ValueError, DecodeError) as error:
        raise DataError(f"{source}: an event is none: {error!r}") from None
    return head, events


def _event(row: Any) -> Event:
    caused_by = row["caused_by"]
    values = {
        **row,
        "caused_by": None if caused_by is None else _hex(caused_by),
        "payload_cbor": _hex(row["payload_cbor"]),
    }
    event: Event = record.structure(values, Event)
    return event


def rebuild_state(head: SavedHead, entries: Iterable[Entry]) -> Blobs:
    """The stored parts of the state with these entries; raises ChainError if its root is another (D6)."""
    values: dict[Label, dict[bytes, cbor.Value | None]] = {namespace: {} for namespace in NAMESPACES}
    for namespace, key, value in entries:
        if namespace not in values or key in values[namespace]:
            raise ChainError(head.height, "entries", f"{namespace}/{key!r} is of no namespace, or there twice")
        values[namespace][key] = cbor.decode(value, size_max=BLOB_BYTES_MAX)
    root, blobs = state_of(values)
    if root != head.state_root:
        raise ChainError(head.height, "state_root", f"the entries have root {root}, not {head.state_root}")
    return blobs


def pack_state(state_root: Cid, get: NodeSource) -> Iterator[tuple[StateChunkRef, bytes, bool]]:
    """The state in packs, then each part that fits into none: what is noted of it, its bytes, whether it is a pack."""
    packed: set[ContentHash] = set()
    for plan in plan_packs(state_root, get):
        if plan is not None:
            packed.update(plan.nodes)
            data = encode_pack([get(digest) for digest in plan.nodes])
            yield StateChunkRef(content=plan.content, size_bytes=U64(plan.size_bytes)), data, True
    for digest, data in state_blobs(state_root, get):
        if digest not in packed:
            yield StateChunkRef(content=Cid(Codec.DAG_CBOR, digest), size_bytes=U64(len(data))), data, False


def unpack_state(
    head: SavedHead, packs: Sequence[StateChunkRef], loose: Sequence[StateChunkRef], source: NodeSource
) -> Blobs:
    """Inverse of ``pack_state``; ``source`` verifies what it reads.

    Raises BlobNotFound, BlobHashMismatch, DecodeError, or ChainError for a part of another size.
    """
    found: Blobs = {}
    for number, part in enumerate([*packs, *loose]):
        data = source(part.content.digest)
        if len(data) != part.size_bytes:
            raise ChainError(head.height, f"part {number}", f"{len(data)} bytes, the manifest says {part.size_bytes}")
        found.update(open_pack(data) if number < len(packs) else {part.content.digest: data})
    return found


def cut_journal(events: Sequence[Event]) -> Iterator[tuple[JournalSegmentRef, bytes]]:
    """The events in segments, with what is noted of each."""
    for start in range(0, len(events), SEGMENT_EVENTS_MAX):
        group = tuple(events[start : start + SEGMENT_EVENTS_MAX])
        data = record.to_bytes(JournalSegment(events=group))
        yield (
            JournalSegmentRef(
                from_event_id=group[0].event_id,
                to_event_id=group[-1].event_id,
                content=cid_of(data),
                size_bytes=U64(len(data)),
            ),
            data,
        )


def join_journal(head: SavedHead, refs: Sequence[JournalSegmentRef], source: NodeSource) -> tuple[Event, ...]:
    """The events of segments; raises as ``unpack_state``. That they follow each other ``check_world`` finds."""
    events: list[Event] = []
    for number, ref in enumerate(refs):
        data = source(ref.content.digest)
        group = record.from_bytes(JournalSegment, data, size_max=BLOB_BYTES_MAX).events
        ends = (group[0].event_id, group[-1].event_id) if group else None
        if len(data) != ref.size_bytes or ends != (ref.from_event_id, ref.to_event_id):
            raise ChainError(head.height, f"journal segment {number}", "its size or range is not the one noted")
        events.extend(group)
    return tuple(events)


def check_world(head: SavedHead, blobs: Mapping[Any, bytes], events: Sequence[Event]) -> None:
    """Raises ChainError unless state and events are those of the head and of one world."""

    def fail(what: str, detail: str) -> ChainError:
        return ChainError(head.height, what, detail)

    if any(content_hash(data) != digest for digest, data in blobs.items()):
        raise fail("state", "a part does not hash to its name")
    try:
        parts = sum(1 for _ in state_blobs(head.state_root, lambda digest: blobs[digest]))
        state = WorldState(head.state_root, NodeCache(lambda digest: blobs[digest]))
        world, clock = state.world, state.clock
    except (KeyError, NodeMissing) as error:
        raise fail("state", f"a part is missing: {error}") from None
    if parts != len(blobs):
        raise fail("state", f"{len(blobs) - parts} parts are not of this state")
    if (world.world_id, world.genesis_hash, clock.height) != (head.world_id, head.genesis_hash, head.height):
        raise fail("state", f"it is of world {world.world_id!r} at height {clock.height}")
    if len(events) != head.events or event_root(events) != head.event_root:
        raise fail("journal", f"these {len(events)} events are not the {head.events} of the head")
    for before, event in itertools.pairwise(events):
        if event.event_id != before.event_id + 1:
            raise fail("journal", f"event {event.event_id} follows event {before.event_id}")
    ends = (events[0].event_id, events[-1].event_id) if events else (0, clock.last_event_id)
    if ends != (head.first_event_id, clock.last_event_id):
        raise fail("journal", f"events {ends[0]} to {ends[1]}, and the state ends with {clock.last_event_id}")


def _json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: lists in lists, thousands deep
        raise DataError(f"{source}: not JSON: {error}") from None


def _rows(found: Any, name: str, source: str) -> list[Any]:
    rows = found.get(name)
    if not isinstance(rows, list):
        raise DataError(f"{source}: {name} must be a list")
    return rows


def _hex(value: Any) -> bytes:
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        raise ValueError("lower-case hex digits are expected")
    return bytes.fromhex(value)


def _hash(value: Any) -> Hash32:
    if len(found := _hex(value)) != 32:
        raise ValueError("a hash has 64 hex digits")
    return Hash32(found)


def _number(value: Any) -> U64:
    if type(value) is not int or not 0 <= value <= U64_MAX:
        raise ValueError("a number that is not negative is expected")
    return U64(value)
