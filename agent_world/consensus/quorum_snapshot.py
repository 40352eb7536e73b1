"""A quorum's state <-> bytes of its snapshot.

Version 1 is strict DAG-CBOR like all that is stored (D1), not the JSON of the reference system: one decoder that
refuses whatever is not canonical, real byte strings and links, and no second reader of numbers. Members, worlds and
records are byte strings within, since a whole state has more data items than one message may have.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import attrs

from agent_world.consensus.quorum_records import (
    RECORDS_PER_WORLD_MAX,
    SEATS_PER_WORLD_MAX,
    SETS_MAX,
    WORLDS_MAX,
    QuorumRecord,
    QuorumSet,
)
from agent_world.consensus.quorum_state import QuorumState, WorldState
from agent_world.errors import DataError, DecodeError, UsageError
from agent_world.wire import record
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U16, U32, U64, WorldId
from agent_world.wire.limits import KIB
from agent_world.wire.record import V1

T = TypeVar("T")

_VOTE_BYTES_MAX: Final = 384
"""A vote with the longest id and a reason of 64 characters of 4 bytes: 372."""
_RECORD_FRAME_BYTES_MAX: Final = 512
"""A record without votes: 395."""
_SET_BYTES_MAX: Final = 20 * KIB
"""256 ids of 66 bytes."""
_WORLD_BYTES_MAX: Final = RECORDS_PER_WORLD_MAX * _RECORD_FRAME_BYTES_MAX + SEATS_PER_WORLD_MAX * _VOTE_BYTES_MAX + KIB
QUORUM_SNAPSHOT_BYTES_MAX: Final = WORLDS_MAX * _WORLD_BYTES_MAX + SETS_MAX * _SET_BYTES_MAX + KIB
"""105 MiB if every limit is reached; 4,096 records of four validators are 3 MiB."""


@attrs.frozen(slots=True, kw_only=True)
class _SavedWorld:
    world_id: WorldId
    committed_floor: U64
    published_height: U64
    first_attempt: U64
    unpublished: WorldHead | None
    records: tuple[bytes, ...]


@attrs.frozen(slots=True, kw_only=True)
class _SavedQuorum:
    v: U16 = U16(V1)
    max_records_per_world: U32
    sets: tuple[bytes, ...]
    worlds: tuple[bytes, ...]


def to_bytes(state: QuorumState) -> bytes:
    """The snapshot of a state; equal states give equal bytes."""
    return record.to_bytes(
        _SavedQuorum(
            max_records_per_world=state.max_records_per_world,
            sets=_encoded(state.sets),
            worlds=_encoded(_saved(world) for world in state.worlds),
        )
    )


def from_bytes(data: bytes) -> QuorumState:
    """Strict inverse of ``to_bytes``; raises DataError.

    It judges the form only; ``QuorumConsensus.restored`` judges what the state says.
    """
    saved = _decoded(_SavedQuorum, data)
    return QuorumState(
        max_records_per_world=saved.max_records_per_world,
        sets=tuple(_decoded(QuorumSet, item) for item in saved.sets),
        worlds=tuple(_opened(_decoded(_SavedWorld, item)) for item in saved.worlds),
    )


def _saved(world: WorldState) -> _SavedWorld:
    fields = attrs.asdict(world, recurse=False)
    return _SavedWorld(**{**fields, "records": _encoded(world.records)})


def _opened(saved: _SavedWorld) -> WorldState:
    fields = attrs.asdict(saved, recurse=False)
    return WorldState(**{**fields, "records": tuple(_decoded(QuorumRecord, item) for item in saved.records)})


def _encoded(items: Iterable[object]) -> tuple[bytes, ...]:
    return tuple(record.to_bytes(item) for item in items)


def _decoded(kind: type[T], data: bytes) -> T:
    try:
        return record.from_bytes(kind, data, size_max=QUORUM_SNAPSHOT_BYTES_MAX)
    except (DecodeError, UsageError) as error:
        raise DataError(f"the quorum's snapshot is damaged: {error}") from None
