"""Snapshots and journals of a real chain, in pieces so small that there are many (T-2.17)."""

from __future__ import annotations

import pytest

from agent_world.crypto.hashing import content_hash
from agent_world.node.snapshots import Snapshots
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.wire import record
from agent_world.wire.block import JournalIndex
from agent_world.wire.cid import ContentHash
from agent_world.wire.limits import BLOB_BYTES_MAX
from agent_world.world.journal import assemble_journal, segment_journal
from agent_world.world.snapshot import NODE_OVERHEAD_BYTES, PACK_OVERHEAD_BYTES, open_pack, state_blobs


async def test_every_pack_of_a_snapshot_is_handed_over(chain: LedgerChain, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = max(len(data) for _, data in state_blobs(chain.ledger.head.state_root, chain.blobs.get))
    chunk_bytes = largest + PACK_OVERHEAD_BYTES + NODE_OVERHEAD_BYTES
    monkeypatch.setattr("agent_world.world.snapshot.CHUNK_BYTES", chunk_bytes)
    snapshots = Snapshots(chain.ledger, chain.blobs)
    manifest = await snapshots.snapshot(chain.ledger.height)
    assert manifest is not None
    assert len(manifest.chunks) >= 2
    found: dict[ContentHash, bytes] = {}
    for chunk in manifest.chunks:
        pack = snapshots.find(chunk.content.digest)
        assert pack is not None
        assert (content_hash(pack), len(pack)) == (chunk.content.digest, chunk.size_bytes)
        found.update(open_pack(pack))
    assert dict(state_blobs(manifest.state_root, found.__getitem__)) == found
    assert manifest.state_root == chain.ledger.head.state_root


def test_one_event_a_segment_gives_as_many_segments_as_events(chain: LedgerChain) -> None:
    lengths = []
    for height in range(1, chain.ledger.height + 1):
        (ref,) = chain.ledger.journal(height)
        events = assemble_journal(ref, height, chain.blobs.get)
        split, blobs = segment_journal(events, segment_events_max=1)
        index = record.from_bytes(JournalIndex, blobs[split.digest], size_max=BLOB_BYTES_MAX)
        assert len(index.segments) == len(events)
        assert assemble_journal(split, height, blobs.__getitem__) == events
        lengths.append(len(events))
    assert sum(lengths) > 5
