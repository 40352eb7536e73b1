"""wire/snapshot.py: a state in packs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.testing.examples import example
from agent_world.wire import limits, record
from agent_world.wire.ids import U64
from agent_world.wire.snapshot import GetSnapshotRequest, SnapshotManifest, StateChunkRef, StatePack


@pytest.mark.parametrize("kind", [GetSnapshotRequest, SnapshotManifest, StateChunkRef, StatePack])
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


def test_the_longest_manifest_is_a_blob() -> None:
    chunk = StateChunkRef(content=example(StateChunkRef, "typical").content, size_bytes=U64(limits.CHUNK_BYTES))
    manifest = SnapshotManifest(
        world_id="w" * 64, epoch=U64(2**64 - 1), height=U64(2**64 - 1), state_root=chunk.content,
        chunks=(chunk,) * limits.SNAPSHOT_CHUNKS_MAX,
    )  # fmt: skip
    assert len(record.to_bytes(manifest)) < 2 * limits.BLOB_BYTES_MAX < limits.RPC_BODY_BYTES_MAX
