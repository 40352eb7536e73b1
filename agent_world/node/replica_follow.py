"""Follows the record log: applies what is next, and asks one neighbour after the other for what is missing (K-8.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from agent_world.distfs.manifest import manifest_size
from agent_world.distfs.replication import OpenedRecord, apply_replication_record, commit_height
from agent_world.errors import ErrorCode, Ignored, Refused, RemoteError, StoreFull
from agent_world.handlers.replication import open_commit, open_records
from agent_world.net.reputation import Offence
from agent_world.node.counters import Counters
from agent_world.node.replica_log import ReplicaLog
from agent_world.node.replica_parts import ReplicationParts
from agent_world.wire import record, rpc
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import U64, PeerId, ValidatorId
from agent_world.wire.replication import FetchCommitRequest, GetRecordsRequest

_log = structlog.get_logger("agent_world.replication")

ASK_AGAIN_S: Final = 0.05
"""Pause between two questions while something is known to be missing; doubles while they bring nothing."""
APPLIED_AT_ONCE: Final = 16
"""Records applied between two chances for other tasks: each is a transaction."""
MISSING_MAX: Final = 64
"""Contents fetched in one request; the others follow in the next round."""


class ReplicaFollower:
    """One node's way to the end of the log."""

    def __init__(self, log: ReplicaLog, parts: ReplicationParts) -> None:
        self._log = log
        self._ledger = parts.ledger
        self._network = parts.network
        self._client = parts.client
        self._blobs = parts.blobs
        self._clock = parts.clock
        self._config = parts.config
        self._peers = parts.neighbours
        self._turn = 0
        self._fruitless = 0
        """Questions in a row that brought nothing."""
        self._left_alone: dict[PeerId, int] = {}
        self.is_seeking = False
        """Whether the end of the log is waited for: then questions follow each other sooner."""
        self.confirmed: set[PeerId] = set()
        """Neighbours that have nothing after the last record here, as far as they were asked since it came."""
        self.told: Callable[[PeerId, U64, ValidatorId | None], None] = lambda _peer, _term, _holder: None
        """Told what a neighbour says of the lease: (peer, last term granted there, who holds it)."""
        self.file_known: Callable[[Cid, int], None] = lambda _cid, _size: None
        """Told of a file whose manifest is here, with its size in bytes: whoever stores it fetches the chunks."""
        self.last_error: str | None = None
        """Why the last question or content failed; kept until the next success."""
        self.counters = Counters()

    async def run(self) -> None:
        """Until cancelled."""
        asked_ms = self._clock.now_ms()
        while True:
            if await self._apply_waiting():
                continue
            pause_s = self._config.ask_interval_ms / 1000
            if self.is_seeking or self._is_missing():
                pause_s = min(pause_s, ASK_AGAIN_S * 2 ** min(self._fruitless, 16))
            due_s = max(0.0, pause_s - (self._clock.now_ms() - asked_ms) / 1000)
            if due_s > 0 and await self._woken(due_s):
                continue
            asked_ms = self._clock.now_ms()
            place = self._log.place()
            await self._ask_one()
            self._fruitless = 0 if self._log.place() != place or self.is_seeking else self._fruitless + 1

    async def _woken(self, pause_s: float) -> bool:
        """Wait; whether a record has come or the chain has moved while something waits for it."""
        self._log.moved = moved = trio.Event()
        with trio.move_on_after(pause_s):
            await moved.wait()
        return moved.is_set()

    def seek_end(self) -> None:
        """Ask neighbours anew where the log ends; ``confirmed`` tells who has answered."""
        self.confirmed.clear()
        self.is_seeking = True
        self._log.moved.set()

    def _is_missing(self) -> bool:
        return self._log.waiting.gap(self._log.store.guard()) is not None

    async def _apply_waiting(self) -> int:
        """Apply what waits and is next; how many there were."""
        applied = 0
        while (opened := self._log.waiting.next(self._log.store.guard())) is not None:
            contents = await self._contents([opened])
            self._log.waiting.drop(opened.place)
            if not self._apply(opened, contents):
                break
            applied += 1
            if applied % APPLIED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return applied

    async def _ask_one(self) -> None:
        """Ask the next neighbour for records after the last one here."""
        term, _holder = self._log.committed_lease()
        peer = self._next_peer()
        if not term or peer is None:
            return
        epoch, sequence = self._log.place()
        request = GetRecordsRequest(
            world_id=self._ledger.world_id, after_epoch=U64(epoch), after_sequence=U64(sequence)
        )
        self.counters.add("replication.asked")
        try:
            answer = open_records(await self._network.request(peer, rpc.GET_RECORDS, record.to_bytes(request)))
        except Refused as error:
            self._failed(peer, f"{error}", f"not_answered.{error.code}")
            return
        except RemoteError as error:
            self._network.gate.blame(peer, Offence.GARBAGE)
            self._failed(peer, f"{error}", f"broken.{error.rule}")
            return
        self.told(peer, answer.term, answer.holder_id)
        if not answer.records:
            self.confirmed.add(peer)
            return
        problem = await self._apply_answer(peer, answer.records)
        if self._log.place() > (epoch, sequence):
            self.confirmed.clear()
        elif problem is None:
            self._failed(peer, "its records lead nowhere", "no_use")
        if problem:
            self.last_error = problem  # what was applied before it has cleared the error

    def _next_peer(self) -> PeerId | None:
        """In turn; one that failed is left alone for an interval, so that it holds up nobody."""
        now_ms = self._clock.now_ms()
        peers = list(self._peers())
        self._left_alone = {peer: until for peer, until in self._left_alone.items() if until > now_ms}
        ready = [peer for peer in peers if peer not in self._left_alone]
        if not ready:
            return None
        self._turn += 1
        return ready[self._turn % len(ready)]

    def _failed(self, peer: PeerId, reason: str, counter: str) -> None:
        self.counters.add(f"replication.{counter}")
        self.last_error = f"records after {self._log.place()}, peer {peer}: {reason}"
        self._left_alone[peer] = self._clock.now_ms() + self._config.ask_interval_ms

    async def _apply_answer(self, peer: PeerId, records: Sequence[bytes]) -> str | None:
        """In order, up to the first that is wrong or whose height is not reached; those before it stay.

        Returns why it went no further, empty if the chain must come first; None at the end of the answer.
        """
        opened: list[OpenedRecord] = []
        problem: str | None = None
        for data in records:
            try:
                opened.append(self._log.open(data))
            except Ignored:
                self.counters.add("replication.ahead")
                problem = ""  # the chain here comes to it; nobody's fault
                break
            except RemoteError as error:
                self._network.gate.blame(peer, Offence.INVALID_MESSAGE)
                self._failed(peer, f"{error}", f"refused.{error.rule}")
                problem = self.last_error
                break
        for start in range(0, len(opened), MISSING_MAX):
            part = opened[start : start + MISSING_MAX]
            contents = await self._contents(part, peer)
            with self._log.store.together():
                if not all(self._apply(item, contents) for item in part):
                    return self.last_error
            await trio.lowlevel.checkpoint()
        return problem

    async def _contents(self, opened: Sequence[OpenedRecord], source: PeerId | None = None) -> dict[ContentHash, bytes]:
        """The blobs that records name: from the chain, from here, and the others in one request to peers."""
        found: dict[ContentHash, bytes] = {}
        wanted: list[ContentHash] = []
        for item in opened:
            height = commit_height(item.record.path)
            stored = None if height is None else self._ledger.stored(height)
            if item.record.content is None:
                continue
            if stored is not None:
                found[item.record.content.digest] = stored.block
            else:
                wanted.append(item.record.content.digest)
        found.update(self._blobs.get_many(wanted))
        missing = [digest for digest in wanted if digest not in found]
        if missing:
            preferred = () if source is None else (source,)
            found.update(await self._client.fetch_near(missing, preferred))
            missing = [digest for digest in missing if digest not in found]
        if missing:
            found.update(await self._client.fetch_far(missing))
        return found

    def _apply(self, opened: OpenedRecord, contents: dict[ContentHash, bytes]) -> bool:
        """Whether the log went on, or had it already."""
        said = opened.record
        data = b"" if said.content is None else contents.get(said.content.digest)
        if data is None:
            self.counters.add("replication.content_missing")
            self.last_error = f"record {opened.place}: no peer has {said.content}"
            return False
        try:
            apply_replication_record(self._log.store, opened, self._log.lease_at(said.height), data)
        except StoreFull as error:
            self.counters.add("replication.no_room")
            self.last_error = f"record {opened.place}: {error}"
            return False
        except (Refused, RemoteError, Ignored) as error:
            if isinstance(error, Refused) and self._log.place() >= opened.place:
                return True  # it came another way meanwhile
            self.counters.add(f"replication.not_applied.{error.rule}")
            self.last_error = f"record {opened.place}: {error}"
            return False
        self.counters.add("replication.applied")
        self.last_error = self._log.last_error = None
        self._log.accepted(opened)
        if said.content is not None and manifest_size(said.content, data) is not None:
            self.file_known(said.content, said.size_bytes)
        return True

    async def fetch_commit(self, height: int) -> OpenedRecord:
        """The record of a committed height, from here or from the neighbours in turn.

        Raises Refused, ERR_NOT_FOUND, if nobody has it.
        """
        own = self._log.commit_record(height)
        if own is not None:
            return self._log.open(own)
        request = record.to_bytes(FetchCommitRequest(world_id=self._ledger.world_id, height=U64(height)))
        reason = "no neighbour to ask"
        for peer in self._peers():
            try:
                opened = self._log.open(open_commit(await self._network.request(peer, rpc.FETCH_COMMIT, request)))
                if commit_height(opened.record.path) != height:
                    raise RemoteError("W12", f"a record of {opened.record.path}")
            except Refused as error:
                self.counters.add(f"replication.commit_not_given.{error.code}")
                reason = f"peer {peer}: {error.message}"
            except (RemoteError, Ignored) as error:
                self.counters.add(f"replication.commit_wrong.{error.rule}")
                reason = f"peer {peer}: {error}"
            else:
                return opened
        raise Refused(ErrorCode.NOT_FOUND, f"no record of height {height}: {reason}", rule="W12")
