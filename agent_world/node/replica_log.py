"""This node's copy of the record log: what is taken, who may write as of which height, what waits for its turn."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

import structlog
import trio

from agent_world.config import ReplicationConfig
from agent_world.distfs.reorder import ReorderBuffer
from agent_world.distfs.replication import (
    Known,
    OpenedRecord,
    Place,
    Superseded,
    WriterLease,
    check_block,
    check_writer,
    commit_height,
    judge,
    open_record,
)
from agent_world.errors import ChainError, Ignored, RemoteError
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.store.replication import ReplicationStore
from agent_world.wire.ids import U64, PeerId, ValidatorId
from agent_world.wire.replication import RecordOutcome
from agent_world.world import queries
from agent_world.world.records import VALIDATORS
from agent_world.world.state import WorldState
from agent_world.world.trie import NodeMissing

_log = structlog.get_logger("agent_world.replication")

LEASES_MAX: Final = 1_024
"""Heights whose lease is remembered; reading one costs a few nodes of the state."""
AHEAD_MAX: Final = 64
"""Records kept that came before the block at their height; the oldest is dropped, and asked for when it is missed."""


class ReplicaLog:
    """Satisfies ``handlers.replication.ReplicationView``. Applying is the follower's affair."""

    def __init__(self, store: ReplicationStore, ledger: Ledger, config: ReplicationConfig) -> None:
        self.store = store
        self._ledger = ledger
        self.world_id = ledger.world_id
        self.waiting = ReorderBuffer(config.reorder_max)
        self._leases: OrderedDict[int, WriterLease | None] = OrderedDict()
        self._ahead: deque[tuple[bytes, PeerId]] = deque(maxlen=AHEAD_MAX)
        self.moved = trio.Event()
        """Set when a record was taken; a new one is put in its place by whoever waits."""
        self.last_error: str | None = None
        """Why a record was refused last; kept until the next one is accepted."""
        self.accepted: Callable[[OpenedRecord], None] = lambda _opened: None
        """Told of every record that is stored here."""
        self.counters = Counters()

    def place(self) -> Place:
        """Where the log here ends."""
        return self.store.guard().place

    def records_after(self, place: Place) -> tuple[bytes, ...]:
        """Signed records after a place."""
        return self.store.records_after(place)

    def commit_record(self, height: int) -> bytes | None:
        """The signed record of a committed height."""
        return self.store.commit_record(height)

    def committed_lease(self) -> tuple[U64, ValidatorId | None]:
        """Last term that the chain here has granted, and who holds the lease."""
        held = queries.held_lease(self._ledger.state, self._ledger.timestamp_ms)
        return queries.lease(self._ledger.state).term, None if held is None else held.holder_id

    def lease_end_ms(self) -> int:
        """When the lease of the head's state ends, by block time; 0 if there is none."""
        found = queries.lease(self._ledger.state).lease
        return 0 if found is None else found.expires_at_ms

    def lease_at(self, height: int) -> WriterLease | None:
        """Who may write as of a committed height; None for nobody. Raises Ignored (W6) if that is not known here."""
        if height in self._leases:
            self._leases.move_to_end(height)
            return self._leases[height]
        if height > self._ledger.height:
            raise Ignored("W6", f"height {height} is above {self._ledger.height}")
        try:
            state = self._ledger.state_after(height)
            if state is None:
                raise Ignored("W6", f"the block at height {height} is not held here")
            found = writer_lease(state, height)
        except (NodeMissing, ChainError) as error:
            self.counters.add("replication.state_missing")
            raise Ignored("W6", f"the state at height {height} is not whole here: {error}") from None
        self._leases[height] = found
        while len(self._leases) > LEASES_MAX:
            self._leases.popitem(last=False)
        return found

    def open(self, data: bytes) -> OpenedRecord:
        """A record that its writer was allowed to make; raises RemoteError (W1 to W8) and Ignored (W6)."""
        opened = open_record(data, self._ledger.world_id, self._ledger.genesis_hash)
        check_writer(opened, self.lease_at(opened.record.height))
        height = commit_height(opened.record.path)
        if height is not None:
            stored = self._ledger.stored(height) if height <= opened.record.height else None
            check_block(opened.record, None if stored is None else stored.block_hash)
        return opened

    def take(self, data: bytes, source: PeerId) -> RecordOutcome:
        """A record that a writer has just made, from ``source``; raises RemoteError (W1 to W8)."""
        try:
            opened = self.open(data)
        except Ignored:
            self.counters.add("replication.ahead_dropped" if len(self._ahead) == AHEAD_MAX else "replication.ahead")
            self._ahead.append((data, source))
            return RecordOutcome.WAITING
        except RemoteError as error:
            self._refused(source, error)
            raise
        said = opened.record
        term, _holder = self.committed_lease()
        judgement = judge(self.store.guard(), said)
        if said.writer_epoch < term or isinstance(judgement, Superseded):
            self.counters.add("replication.superseded")
            self.last_error = f"{said.writer_id} writes under term {said.writer_epoch}, the current one is {term}"
            _log.warning("a superseded writer goes on", writer=said.writer_id, term=said.writer_epoch, current=term)
            return RecordOutcome.SUPERSEDED
        if isinstance(judgement, Known):
            self._compare(opened)
            return RecordOutcome.KNOWN
        self.keep(opened)
        place = self.place()
        return RecordOutcome.TAKEN if place == (said.prev_epoch, said.prev_sequence) else RecordOutcome.MISSING

    def chain_moved(self) -> None:
        """A height was committed: what came before it is looked at again."""
        waiting = tuple(self._ahead)
        self._ahead.clear()
        for data, source in waiting:
            try:
                self.take(data, source)
            except RemoteError as error:
                # Counted by ``take``; who sent it could not know better than this node did then.
                _log.warning("a record that came early was refused", peer=source, rule=error.rule)

    def keep(self, opened: OpenedRecord) -> None:
        """Let it wait for its turn, which the follower sees to."""
        if not self.waiting.put(opened):
            self.counters.add("replication.reorder_dropped")
        self.moved.set()

    def _refused(self, source: PeerId, error: RemoteError) -> None:
        self.counters.add(f"replication.refused.{error.rule}")
        self.last_error = f"a record from peer {source} was refused: {error}"

    def _compare(self, opened: OpenedRecord) -> None:
        """A writer that signs two records for one place is found out, though only one is ever accepted."""
        stored = self.store.record_at(opened.place)
        if stored is not None and stored != opened.data:
            self.counters.add("replication.two_for_one_place")
            self.last_error = f"{opened.record.writer_id} has signed two records for {opened.place}"
            _log.error("a writer has signed two records for one place", place=opened.place)
        else:
            self.counters.add("replication.known")


def writer_lease(state: WorldState, height: int) -> WriterLease | None:
    """Who may write as of the state after ``height``; None for nobody. Raises NodeMissing, ChainError."""
    held = queries.held_lease(state, state.clock.timestamp_ms)
    if held is None:
        return None
    for entry in state.need(VALIDATORS).validators:
        if entry.validator_id == held.holder_id:
            return WriterLease(height=U64(height), holder_id=held.holder_id, term=held.term, key=entry.public_key)
    return None
