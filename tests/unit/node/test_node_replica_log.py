from __future__ import annotations

import attrs
import pytest

from agent_world.config import ReplicationConfig
from agent_world.crypto.hashing import cid_of
from agent_world.distfs.replication import (
    FileEntry,
    OpenedRecord,
    WriterLease,
    build_replication_record,
    commit_path,
    sign_replication_record,
    validate_and_advance,
)
from agent_world.errors import Ignored, RemoteError
from agent_world.node import replica_log
from agent_world.node.replica_log import ReplicaLog
from agent_world.store.replication import ReplicationStore
from agent_world.testing.ledger_chain import BLOCK_MS, VALIDATOR, LedgerChain
from agent_world.testing.node_swarm import WORLD_ID, make_key
from agent_world.wire.cid import Codec
from agent_world.wire.ids import U64, PeerId, TimeMs, peer_id_of
from agent_world.wire.lease import AcquireLease
from agent_world.wire.replication import RecordOutcome

PEER: PeerId = peer_id_of(make_key("somebody").public_key)


class Writer:
    """The chain's validator, that holds the lease from height 1 on, and a log that hears it."""

    def __init__(self, chain: LedgerChain) -> None:
        self.chain = chain
        chain.do(chain.voter, AcquireLease(ttl_ms=U64(5 * BLOCK_MS)))
        self.store = ReplicationStore(chain.home, chain.blobs, WORLD_ID)
        self.log = ReplicaLog(self.store, chain.ledger, ReplicationConfig(reorder_max=4))
        self.guard = self.store.guard()

    def lease(self, height: int) -> WriterLease:
        return WriterLease(height=U64(height), holder_id=VALIDATOR, term=U64(1), key=self.chain.voter.public_key)

    def make(self, path: str = "file", data: bytes = b"data", *, height: int = 1, advance: bool = True) -> OpenedRecord:
        entry = FileEntry(
            path=path, content=cid_of(data, Codec.RAW), size_bytes=U64(len(data)), updated_at_ms=TimeMs(0)
        )
        said = build_replication_record(self.guard, self.lease(height), entry)
        if advance:
            self.guard = validate_and_advance(self.guard, said)
        return sign_replication_record(said, self.chain.genesis_hash, self.chain.voter)

    def commit(self, of: int, *, height: int) -> OpenedRecord:
        stored = self.chain.ledger.stored(of)
        assert stored is not None
        return self.make(commit_path(of), stored.block, height=height)


@pytest.fixture
def writer(empty_chain: LedgerChain) -> Writer:
    return Writer(empty_chain)


def test_the_lease_of_every_height_is_known_by_its_state(writer: Writer) -> None:
    for _ in range(6):
        writer.chain.commit()
    held = [writer.log.lease_at(height) is not None for height in range(8)]
    assert held == [False, True, True, True, True, True, False, False]  # it runs out at the time of height 6
    assert writer.log.lease_at(3) == writer.lease(3)
    assert writer.log.committed_lease() == (1, None)
    with pytest.raises(Ignored, match="W6"):
        writer.log.lease_at(8)


def test_what_is_remembered_of_leases_is_bounded(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_log, "LEASES_MAX", 2)
    for _ in range(4):
        writer.chain.commit()
    for height in (1, 2, 3, 1, 4):
        assert writer.log.lease_at(height) is not None
    assert len(writer.log._leases) == 2


def test_the_next_and_the_next_but_one(writer: Writer) -> None:
    first, second, third = writer.commit(1, height=1), writer.make("two"), writer.make("three")
    assert writer.log.take(first.data, PEER) is RecordOutcome.TAKEN
    assert writer.log.moved.is_set()
    assert writer.log.take(third.data, PEER) is RecordOutcome.MISSING
    assert len(writer.log.waiting) == 2
    guard = validate_and_advance(writer.store.guard(), first.record)
    stored = writer.chain.ledger.stored(1)
    assert stored is not None
    writer.store.accept(first, guard, stored.block)
    assert writer.log.take(first.data, PEER) is RecordOutcome.KNOWN
    assert writer.log.take(second.data, PEER) is RecordOutcome.TAKEN


def test_a_record_of_a_height_that_comes_later_is_looked_at_then(writer: Writer) -> None:
    early = writer.make(height=2)
    assert writer.log.take(early.data, PEER) is RecordOutcome.WAITING
    writer.log.chain_moved()
    assert len(writer.log.waiting) == 0
    writer.chain.commit()
    writer.log.chain_moved()
    assert len(writer.log.waiting) == 1
    assert writer.log.counters["replication.ahead"] == 2


def test_what_comes_early_is_bounded(writer: Writer) -> None:
    for number in range(replica_log.AHEAD_MAX + 5):
        writer.log.take(writer.make(f"{number}", height=2).data, PEER)
    assert writer.log.counters["replication.ahead_dropped"] == 5


def test_a_writer_without_the_lease_is_refused(writer: Writer) -> None:  # T-8.4: a foreign writer
    stranger = make_key("stranger")
    forged = sign_replication_record(writer.make().record, writer.chain.genesis_hash, stranger)
    with pytest.raises(RemoteError, match="W7"):
        writer.log.take(forged.data, PEER)
    other_term = attrs.evolve(forged.record, writer_epoch=U64(2), prev_epoch=U64(0), prev_sequence=U64(0))
    with pytest.raises(RemoteError, match="W7"):
        writer.log.take(sign_replication_record(other_term, writer.chain.genesis_hash, writer.chain.voter).data, PEER)
    assert writer.log.last_error is not None
    assert "W7" in writer.log.last_error
    assert (len(writer.log.waiting), writer.log.counters["replication.refused.W7"]) == (0, 2)


def test_a_commit_of_another_block_is_refused(writer: Writer) -> None:  # T-8.4: a bad digest, K-8.3
    with pytest.raises(RemoteError, match="W8"):
        writer.log.take(writer.make(commit_path(1), b"another block").data, PEER)


def test_a_writer_whose_term_is_over_is_told_so(writer: Writer) -> None:  # K-8.9, T-9.7
    late = writer.make(height=1)
    for _ in range(5):
        writer.chain.commit()
    writer.chain.do(writer.chain.voter, AcquireLease(ttl_ms=U64(5 * BLOCK_MS)))
    assert writer.log.committed_lease() == (2, VALIDATOR)
    assert writer.log.take(late.data, PEER) is RecordOutcome.SUPERSEDED
    assert (len(writer.log.waiting), writer.log.counters["replication.superseded"]) == (0, 1)


def test_two_records_for_one_place_are_found_out(writer: Writer) -> None:
    one = writer.make("one", advance=False)
    other = writer.make("other", advance=False)
    writer.store.accept(one, validate_and_advance(writer.store.guard(), one.record), b"data")
    assert writer.log.take(other.data, PEER) is RecordOutcome.KNOWN
    assert writer.log.counters["replication.two_for_one_place"] == 1
    assert "two records for (1, 1)" in (writer.log.last_error or "")
