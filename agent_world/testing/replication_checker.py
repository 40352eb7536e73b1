"""What must hold of the record logs of a whole swarm: I-6 and I-8 of the data layer, and one log for all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agent_world.crypto.hashing import hash32
from agent_world.distfs.replication import BEFORE_FIRST, OpenedRecord, commit_height
from agent_world.node.node import Node
from agent_world.testing.node_swarm import Member, NodeSwarm


class ReplicationChecker:
    """Watches every record that a member accepts, and reports to the swarm's checker."""

    def __init__(self, swarm: NodeSwarm) -> None:
        self._swarm = swarm
        self._writers: dict[int, str] = {}
        self._records: dict[tuple[int, int], bytes] = {}
        self.accepted_records = 0

    def watch(self, member: Member, node: Node) -> None:
        """A node that is about to run."""
        node.replication.log.accepted = lambda opened: self.accepted(member.name, opened)

    def _report(self, invariant: str, name: str, detail: str) -> None:
        self._swarm.checker.report(invariant, name, detail)

    def accepted(self, name: str, opened: OpenedRecord) -> None:
        """I-8: at most one writer a term, whoever accepts it, and one record a place."""
        said = opened.record
        self.accepted_records += 1
        writer = self._writers.setdefault(said.writer_epoch, said.writer_id)
        if writer != said.writer_id:
            self._report("I-8", name, f"accepts {said.writer_id} under term {said.writer_epoch} of {writer}")
        if self._records.setdefault(opened.place, opened.data) != opened.data:
            self._report("I-8", name, f"has another record at {opened.place}")

    def first_covered(self, name: str) -> int:
        """The lowest height with a record at this member; 0 without any."""
        store = self._swarm.node(name).replication.store
        return next((height for height in range(1, store.covered_height() + 1) if store.commit_record(height)), 0)

    def covered(self, name: str, first: int, last: int) -> None:
        """I-6: the member gives the record of every one of these heights, and its block."""
        node = self._swarm.node(name)
        for height in range(first, last + 1):
            data = node.replication.log.commit_record(height)
            stored = node.ledger.stored(height)
            if data is None or stored is None:
                self._report("I-6", name, f"no record or block of height {height}")
                continue
            opened = node.replication.log.open(data)
            if commit_height(opened.record.path) != height:
                self._report("I-6", name, f"a record of {opened.record.path} for height {height}")
            elif opened.record.content is None or node.blobs.get(opened.record.content.digest) != stored.block:
                self._report("I-6", name, f"another block for height {height}")

    def one_log(self, names: Iterable[str]) -> None:
        """All have the same log and the same index."""
        logs = {name: self._log_of(name) for name in names}
        if len({repr(log) for log in logs.values()}) > 1:
            self._report("one log", "all", f"the logs differ: {logs}")

    def _log_of(self, name: str) -> tuple[Any, ...]:
        replication = self._swarm.node(name).replication
        place, records = BEFORE_FIRST, list[bytes]()
        while part := replication.store.records_after(place):
            records += part
            place = replication.log.open(part[-1]).place
        index = hash32(repr(tuple(replication.store.indexed())).encode()).hex()
        return replication.log.place(), len(records), hash32(b"".join(records)).hex(), index
