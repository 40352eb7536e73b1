"""What must hold of the record logs of a whole swarm: I-6 and I-8 of the data layer, and one log for all."""

from __future__ import annotations

from typing import Any

from agent_world.crypto.hashing import hash32
from agent_world.distfs.replication import OpenedRecord, Place, commit_height
from agent_world.node.node import Node
from agent_world.testing.node_swarm import Member, NodeSwarm


class ReplicationChecker:
    """Watches every record that any member accepts, from before the first start on."""

    def __init__(self, swarm: NodeSwarm) -> None:
        self._swarm = swarm
        self._writers: dict[int, str] = {}
        self._records: dict[Place, bytes] = {}
        self.violations: list[str] = []
        swarm.built = self._built

    def _built(self, member: Member, node: Node) -> None:
        node.replication.log.accepted = lambda opened: self.accepted(member.name, opened)

    def accepted(self, name: str, opened: OpenedRecord) -> None:
        """I-8: at most one writer a term, whoever accepts it, and one record a place."""
        said = opened.record
        writer = self._writers.setdefault(said.writer_epoch, said.writer_id)
        if writer != said.writer_id:
            self.violations.append(f"I-8: {name} accepts {said.writer_id} under term {said.writer_epoch} of {writer}")
        if self._records.setdefault(opened.place, opened.data) != opened.data:
            self.violations.append(f"I-8: {name} has another record at {opened.place}")

    def covered(self, name: str, first: int, last: int) -> None:
        """I-6: the member gives the record of every one of these heights, and its block."""
        node = self._swarm.node(name)
        for height in range(first, last + 1):
            data = node.replication.log.commit_record(height)
            if data is None:
                self.violations.append(f"I-6: {name} has no record of height {height}")
                continue
            opened = node.replication.log.open(data)
            stored = node.ledger.stored(height)
            if commit_height(opened.record.path) != height or stored is None:
                self.violations.append(f"I-6: {name} gives a record of {opened.record.path} for height {height}")
            elif node.blobs.get(opened.record.content.digest) != stored.block:
                self.violations.append(f"I-6: {name} gives another block for height {height}")

    def one_log(self, *names: str) -> None:
        """All have the same log and the same index."""
        logs = {name: self._log_of(name) for name in names or self._swarm.members}
        if len({repr(log) for log in logs.values()}) > 1:
            self.violations.append(f"the logs differ: {logs}")

    def _log_of(self, name: str) -> tuple[Any, ...]:
        store = self._swarm.node(name).replication.store
        place: Place = (0, 0)
        records: list[bytes] = []
        while part := store.records_after(place):
            records += part
            place = self._swarm.node(name).replication.log.open(part[-1]).place
        return store.guard().place, len(records), hash32(b"".join(records)).hex(), tuple(store.indexed())
