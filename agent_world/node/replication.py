"""The record log of the world's single writer, as one part of a node: who publishes, who follows, what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from agent_world.distfs.replication import FileEntry, OpenedRecord
from agent_world.handlers.replication import ReplicationHandler
from agent_world.node.replica_follow import ReplicaFollower
from agent_world.node.replica_gate import StorageGate
from agent_world.node.replica_log import ReplicaLog
from agent_world.node.replica_parts import ReplicationParts
from agent_world.node.replica_publish import ReplicaPublisher
from agent_world.store.file_index import not_the_writer
from agent_world.store.file_rows import is_logged
from agent_world.store.home import Home
from agent_world.store.replication import ReplicationStore
from agent_world.wire import record, rpc
from agent_world.wire.cid import Cid
from agent_world.wire.file_index import FileMetadata
from agent_world.wire.ids import U64, TimeMs

if TYPE_CHECKING:
    from agent_world.node.node import Node


class Replication:
    """Of one node: every node follows the log, a validator that holds the lease writes it."""

    def __init__(self, parts: ReplicationParts) -> None:
        self._parts = parts
        self.store = ReplicationStore(
            parts.home, parts.blobs, parts.ledger.world_id, outbox_max=parts.config.outbox_max
        )
        self.log = ReplicaLog(self.store, parts.ledger, parts.config)
        self.gate = StorageGate(self.store, parts)
        self.follower = ReplicaFollower(self.log, parts)
        self.publisher = ReplicaPublisher(self.log, self.follower, self.gate, parts)
        self.handler = ReplicationHandler(self.log)
        self.follower.told = self.publisher.told

    def serve(self) -> None:
        """Answer the methods of protocols/replication."""
        network = self._parts.network
        network.serve(rpc.OFFER_RECORD, self.handler.serve_offer)
        network.serve(rpc.GET_RECORDS, self.handler.serve_records)
        network.serve(rpc.FETCH_COMMIT, self.handler.serve_commit)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.follower.run)
            nursery.start_soon(self.publisher.run)

    def chain_moved(self) -> None:
        """A height was committed here."""
        self.log.chain_moved()

    def file_written(self, file: FileMetadata) -> None:
        """A file is being put into the own index: the holder of the lease publishes it, to others it is theirs alone.

        Called inside the transaction of the index, so that no crash leaves a file that nobody will publish. Raises
        Refused (ERR_BUSY) while the outbox is full.
        """
        if self.publisher.lease() is None:
            return
        self._queue(file.path, file.content, file.size_bytes, file.updated_at_ms)

    def file_removed(self, file: FileMetadata, at_ms: TimeMs) -> None:
        """The same of a file that is being taken away; one that the log does not have is nobody else's affair."""
        if self.publisher.lease() is not None and is_logged(self._parts.home.database, file.path):
            self._queue(file.path, None, U64(0), at_ms)

    def _queue(self, path: str, content: Cid | None, size_bytes: U64, at_ms: TimeMs) -> None:
        self.store.queue_file(FileEntry(path=path, content=content, size_bytes=size_bytes, updated_at_ms=at_ms))
        self.publisher.poked.set()

    def check_writer(self, path: str) -> None:
        """Raise Refused (ERR_UNAUTHORIZED, W9) for a path that the log holds, unless this node writes the log now."""
        if self.publisher.lease() is None and is_logged(self._parts.home.database, path):
            term, holder_id = self.log.committed_lease()
            holder = "nobody" if holder_id is None else holder_id
            raise not_the_writer(path, f"its lease is held by {holder} (term {term}), and this node does not write now")

    def status(self) -> dict[str, Any]:
        """For ``node status``: where the log is, what waits, what the gate says, what failed last."""
        term, holder_id = self.log.committed_lease()
        guard = self.store.guard()
        return {
            "term": term,
            "holder_id": holder_id,
            **self.publisher.status(),
            "writer_id": guard.writer_id,
            "writer_epoch": guard.place[0],
            "sequence": guard.place[1],
            "covered_height": self.store.covered_height(),
            "outbox": self.store.outbox_size(),
            "reordering": len(self.log.waiting),
            "last_error": self.publisher.last_error or self.follower.last_error or self.log.last_error,
            "gate": self.gate.status(),
        }

    def counters(self) -> dict[str, int]:
        """All of its parts."""
        merged: dict[str, int] = {}
        for part in (self.log.counters, self.follower.counters, self.publisher.counters, self.gate.counters):
            merged.update(part)
        return {
            **merged,
            "replication.voided": self.store.voided,
            "replication.overtaken": self.store.overtaken,
            "replication.reordered_out": self.log.waiting.dropped,
        }

    async def commit(self, height: int) -> dict[str, Any]:
        """The record of a committed height, from here or from a neighbour; raises Refused, ERR_NOT_FOUND."""
        return shown_record(await self.follower.fetch_commit(height))


def replication_of(node: Node, home: Home) -> Replication:
    """The replication of a node whose ledger, peering, puller and catch-up are built."""
    made = Replication(
        ReplicationParts(
            home=home,
            ledger=node.ledger,
            blobs=node.blobs,
            network=node.network,
            client=node.client,
            healer=node.healer,
            clock=node.clock,
            config=node.settings.config.replication,
            neighbours=lambda: list(node.peering.hellos),
            voter=lambda: None if node.seat is None else node.seat.key,
            ask_proof=node.catch_up.ask_proof,
        )
    )
    if node.puller is not None:
        made.follower.file_known = lambda cid, size: _want(node, cid, size)
    return made


def _want(node: Node, cid: Cid, size_bytes: int) -> None:
    now_ms = node.clock.wall_ms()
    if node.replicas.holdings.takes_part():
        node.replicas.holdings.named({cid: size_bytes}, now_ms)
    else:
        node.content.want([(cid, size_bytes)], now_ms)


def shown_record(opened: OpenedRecord) -> dict[str, Any]:
    """A record for people."""
    plain = record.unstructure(opened.record)
    assert isinstance(plain, dict)
    return {**plain, "key": opened.key}
