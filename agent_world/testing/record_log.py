"""Two writers and their records, for tests of the record log."""

from __future__ import annotations

from typing import Any

import attrs

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.distfs.replication import (
    FileEntry,
    OpenedRecord,
    SingleWriterReplicationGuard,
    WriterLease,
    build_replication_record,
    sign_replication_record,
)
from agent_world.wire.cid import Codec
from agent_world.wire.ids import U64, TimeMs, ValidatorId, WorldId

WORLD = WorldId("w")
GENESIS = hash32(b"genesis")
A, B = ValidatorId("a"), ValidatorId("b")
EMPTY = SingleWriterReplicationGuard(world_id=WORLD)


def key_of(writer: ValidatorId) -> KeyPair:
    """Its validator key."""
    return KeyPair(hash32(writer.encode()))


def lease(writer: ValidatorId, term: int, height: int = 7) -> WriterLease:
    """As of a height the lease is this writer's."""
    return WriterLease(height=U64(height), holder_id=writer, term=U64(term), key=key_of(writer).public_key)


def entry(path: str, data: bytes = b"data", **changes: Any) -> FileEntry:
    """A file of these bytes."""
    made = FileEntry(path=path, content=cid_of(data, Codec.RAW), size_bytes=U64(len(data)), updated_at_ms=TimeMs(1_000))
    return attrs.evolve(made, **changes)


def guard(writer: ValidatorId, term: int, sequence: int) -> SingleWriterReplicationGuard:
    """After a record was accepted."""
    return attrs.evolve(EMPTY, writer_id=writer, writer_epoch=U64(term), last_sequence=U64(sequence))


def removal(after: SingleWriterReplicationGuard, writer: ValidatorId, term: int, path: str) -> OpenedRecord:
    """The record by which this writer removes a file next."""
    gone = FileEntry(path=path, content=None, size_bytes=U64(0), updated_at_ms=TimeMs(2_000))
    said = build_replication_record(after, lease(writer, term), gone)
    return sign_replication_record(said, GENESIS, key_of(writer))


def written(
    after: SingleWriterReplicationGuard, writer: ValidatorId, term: int, path: str = "file", data: bytes = b"data"
) -> OpenedRecord:
    """The record that this writer makes next."""
    said = build_replication_record(after, lease(writer, term), entry(path, data))
    return sign_replication_record(said, GENESIS, key_of(writer))
