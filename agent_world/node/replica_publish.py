"""Publishes the record log while this validator holds the lease: outbox, gate, records in order (K-8.1, K-8.9).

What is to be published is durable before: heights stand in the chain and then in the outbox, files in the outbox. A
record is published once it is in the own log, from where everybody can have it; gossip and offers are hints. So a gate
that fails, a crash or a full outbox delay a height and never skip it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import structlog
import trio

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.replication import (
    FileEntry,
    OpenedRecord,
    WriterLease,
    build_replication_record,
    commit_height,
    commit_path,
    sign_replication_record,
    validate_and_advance,
)
from agent_world.errors import BlobHashMismatch, BlobNotFound, Ignored, Refused, RemoteError
from agent_world.handlers.replication import open_offered
from agent_world.node.counters import Counters
from agent_world.node.replica_follow import ReplicaFollower
from agent_world.node.replica_gate import StorageGate
from agent_world.node.replica_log import ReplicaLog
from agent_world.node.replica_parts import ReplicationParts
from agent_world.store.replication import Outgoing
from agent_world.wire import record, rpc
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import U64, PeerId, ValidatorId
from agent_world.wire.replication import OfferRecordRequest, RecordOutcome

_log = structlog.get_logger("agent_world.replication")

LOOK_S: Final = 1.0
"""Longest pause before lease and outbox are looked at again; a commit makes the publisher look at once."""
CONFIRMED_BY: Final = 2
"""Neighbours that must know of no later record before the first is written, or all if there are fewer."""
SEEK_MAX_MS: Final = 10_000
"""After this one is enough: who is silent or talks nonsense holds up nobody."""
SEEK_S: Final = 0.1
"""Pause between two looks whether they have answered."""
OFFERED_TO: Final = 2
"""Neighbours that the newest record is shown to directly, since gossip does not answer."""
OFFER_TIMEOUT_S: Final = 2.0
HELD_OFF_MS: Final = 5_000
"""How long a neighbour's word that somebody else is the writer stops this one at most, …"""
CLAIM_BLOCKS: Final = 4
"""… and how many blocks of the own chain: by then it shows who is."""
CLAIMS_MAX: Final = 256
"""Neighbours whose words are remembered; the one that spoke longest ago is forgotten."""


class ReplicaPublisher:
    """One validator's publishing; ``lease`` is the fencing."""

    def __init__(self, log: ReplicaLog, follower: ReplicaFollower, gate: StorageGate, parts: ReplicationParts) -> None:
        self._log = log
        self._follower = follower
        self._gate = gate
        self._ledger = parts.ledger
        self._network = parts.network
        self._blobs = parts.blobs
        self._healer = parts.healer
        self._clock = parts.clock
        self._config = parts.config
        self._peers = parts.neighbours
        self._key = parts.voter
        self._ask_proof = parts.ask_proof
        self._claims: dict[PeerId, int] = {}
        """Neighbours that have named a higher term, and the own height then."""
        self._held_off_until_ms = 0
        self._held_off_to_height = 0
        self._seeking_term = self._ended_term = 0
        """Term for which the end of the log is sought, and was found."""
        self._seeking_since_ms = 0
        self._failures = 0
        self._next_check_ms = 0
        self._turn = 0
        self.poked = trio.Event()
        self.superseded_by: tuple[int, ValidatorId | None] | None = None
        """Higher term and holder that this writer was told of last."""
        self.last_error: str | None = None
        """Why nothing could be published last; kept until something was."""
        self.counters = Counters()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._poke_at_heights)
            while True:
                self.poked = trio.Event()
                if self._own_lease() is not None and self.lease() is None:
                    self.counters.add("replication.not_writing")
                published = await self.publish_due()
                if published == self._config.publish_batch:
                    continue
                with trio.move_on_after(SEEK_S if self._follower.is_seeking else LOOK_S):
                    await self.poked.wait()

    async def _poke_at_heights(self) -> None:
        """A commit makes the writer look at once; who is none has nothing to publish."""
        while True:
            await self._ledger.wait_above(self._ledger.height)
            if self._own_lease() is not None:
                self.poked.set()

    def lease(self) -> WriterLease | None:
        """What this validator may write under now: its lease as of the head, not run out by its own clock either.

        A writer that is cut off sees no more blocks, and its lease would never end by their time.
        """
        found = self._own_lease()
        is_over = self._log.lease_end_ms() <= self._clock.wall_ms()
        return None if found is None or is_over or self._is_held_off() else found

    def _own_lease(self) -> WriterLease | None:
        key = self._key()
        try:
            found = None if key is None else self._log.lease_at(self._ledger.height)
        except Ignored:
            return None  # counted by ``lease_at``: a state that is not whole is being healed
        return found if found is not None and key is not None and found.key == key.public_key else None

    def _is_held_off(self) -> bool:
        return self._clock.now_ms() < self._held_off_until_ms and self._ledger.height < self._held_off_to_height

    def told(self, peer: PeerId, term: U64, holder_id: ValidatorId | None) -> None:
        """A neighbour says which term was granted last; a higher one than the own chain knows stops this writer.

        It is a word and no proof: it counts until the own chain has grown by a few blocks, which would show it, and
        once for each neighbour.
        """
        own_term, _holder = self._log.committed_lease()
        if term <= own_term:
            self._claims.pop(peer, None)
            return
        height = self._ledger.height
        claimed_at = self._claims.setdefault(peer, height)
        while len(self._claims) > CLAIMS_MAX:
            self._claims.pop(next(iter(self._claims)))
        if height >= claimed_at + CLAIM_BLOCKS:
            self.counters.add("replication.false_claim")
            return
        self.superseded_by = (term, holder_id)
        self._ask_proof(peer)
        if self.lease() is not None:
            self._held_off_until_ms = self._clock.now_ms() + HELD_OFF_MS
            self._held_off_to_height = height + CLAIM_BLOCKS
            self.counters.add("replication.stopped_superseded")
            self.last_error = f"peer {peer} says that term {term} was granted to {holder_id}; this node has {own_term}"
            _log.warning("this writer stops: a higher term was granted", term=term, holder=holder_id, own=own_term)

    def note_heights(self, lease: WriterLease) -> None:
        """Put committed heights that no record covers into the outbox, as far as it has room."""
        noted = self._log.store.noted_height()
        first = noted + 1 if noted else self._first_height(lease)
        while first <= self._ledger.height:
            last = min(self._ledger.height, first + self._config.publish_batch - 1)
            taken = self._log.store.note(self._entries(first, last))
            if taken < last - first + 1:
                self.counters.add("replication.outbox_full")
                return
            first = last + 1

    def _first_height(self, lease: WriterLease) -> int:
        """Of the world's first log: where its term was granted. Terms never fall from block to block."""
        low, high = max(1, self._ledger.base_height), self._ledger.height
        while low < high:
            middle = (low + high) // 2
            stored = self._ledger.stored(middle)
            if stored is not None and stored.header.lease_term >= lease.term:
                high = middle
            else:
                low = middle + 1
        return low

    def _entries(self, first: int, last: int) -> Iterator[FileEntry]:
        for height in range(first, last + 1):
            stored = self._ledger.stored(height)
            assert stored is not None, "a committed height is stored"
            yield FileEntry(
                path=commit_path(height),
                content=Cid(Codec.RAW, content_hash(stored.block)),
                size_bytes=U64(len(stored.block)),
                updated_at_ms=stored.header.timestamp_ms,
            )

    async def publish_due(self) -> int:
        """Publish a batch of the outbox, if the gate lets it through; how many records that were."""
        lease = self.lease()
        if lease is None:
            return 0
        self.note_heights(lease)
        if not self._is_at_the_end(lease):
            return 0
        if not self._log.store.outbox_size() or self._clock.now_ms() < self._next_check_ms:
            return 0
        result = await self._gate.check()
        if not result.passed:
            self._delayed(result.detail)
            return 0
        self._failures = 0
        with self._log.store.together():
            published = self._publish_batch()
        if published:
            # Only the newest is told: whoever lacks those before it asks for them.
            await self._network.publish(rpc.topic(self._ledger.world_id, "replication"), published[-1].data)
            await self._offer(published[-1])
        return len(published)

    def _is_at_the_end(self, lease: WriterLease) -> bool:
        """Whether neighbours have nothing after the own last record: asked once for each term and each start.

        Else a new writer would make void what it could have had, and one whose home was reset or taken back to an older
        copy would sign other records for places that it has given already.
        """
        follower = self._follower
        if self._ended_term == lease.term:
            return True
        now_ms = self._clock.now_ms()
        if self._seeking_term != lease.term:
            self._seeking_term, self._seeking_since_ms = lease.term, now_ms
            follower.seek_end()
        peers = set(self._peers())
        needed = 1 if now_ms - self._seeking_since_ms > SEEK_MAX_MS else min(CONFIRMED_BY, len(peers))
        if not peers or len(follower.confirmed & peers) < needed:
            self.last_error = f"waiting for neighbours to say where the log ends: {len(follower.confirmed)} have"
            self.counters.add("replication.waits_for_the_end")
            return False
        self._ended_term, follower.is_seeking = lease.term, False
        return True

    def _publish_batch(self) -> list[OpenedRecord]:
        """In order; a file whose content is not here stays, and holds up nobody."""
        published: list[OpenedRecord] = []
        self.last_error = None
        for item in self._log.store.outgoing(self._config.publish_batch):
            try:
                data = self._content(item.entry)
            except (BlobNotFound, BlobHashMismatch) as error:
                assert item.entry.content is not None, "a removal needs none"
                self._healer.lost(item.entry.content.digest)
                self._not_published(item, error)
                continue
            opened = self._publish(item, data)
            if opened is None:
                break
            published.append(opened)
        return published

    def _not_published(self, item: Outgoing, error: Exception) -> None:
        self.counters.add("replication.not_published")
        self.last_error = f"{item.entry.path}: {error}"

    def _delayed(self, reason: str) -> None:
        self._failures += 1
        pause_ms = min(self._config.gate_retry_max_ms, self._config.gate_retry_ms * 2 ** min(self._failures - 1, 16))
        self._next_check_ms = self._clock.now_ms() + pause_ms
        waiting = self._log.store.outbox_size()
        self.last_error = f"storage challenge gate failed: {reason}; {waiting} records wait"

    def _publish(self, item: Outgoing, data: bytes) -> OpenedRecord | None:
        """Sign and store one record; None if it cannot be published now."""
        lease, key = self.lease(), self._key()  # anew: the lease may have ended while the gate was asked
        if lease is None or key is None:
            return None
        try:
            guard = self._log.store.guard()
            said = build_replication_record(guard, lease, item.entry)
            opened = sign_replication_record(said, self._ledger.genesis_hash, key)
            self._log.store.accept(opened, validate_and_advance(guard, said), data, published=item.position)
        except (Refused, RemoteError) as error:
            self._not_published(item, error)
            return None
        self.counters.add("replication.published")
        self._log.accepted(opened)
        return opened

    def _content(self, entry: FileEntry) -> bytes:
        if entry.content is None:
            return b""
        height = commit_height(entry.path)
        stored = None if height is None else self._ledger.stored(height)
        return self._blobs.get(entry.content.digest) if stored is None else stored.block

    async def _offer(self, opened: OpenedRecord) -> None:
        """Show the newest record to a few neighbours, who say whether this writer is still the writer."""
        peers = sorted(self._peers())
        self._turn += 1
        chosen = [peers[(self._turn + place) % len(peers)] for place in range(min(OFFERED_TO, len(peers)))]
        async with trio.open_nursery() as nursery:
            for peer in chosen:
                nursery.start_soon(self._offer_to, peer, opened)

    async def _offer_to(self, peer: PeerId, opened: OpenedRecord) -> None:
        request = record.to_bytes(OfferRecordRequest(record=opened.data))
        try:
            answer = open_offered(
                await self._network.request(peer, rpc.OFFER_RECORD, request, timeout_s=OFFER_TIMEOUT_S)
            )
        except (Refused, RemoteError) as error:
            self.counters.add("replication.offer_failed")
            _log.debug("a neighbour was offered a record in vain", peer=peer, error=str(error))
            return
        self.counters.add(f"replication.offered.{answer.outcome.value}")
        if answer.outcome is RecordOutcome.SUPERSEDED or answer.last_epoch > opened.record.writer_epoch:
            self.told(peer, max(answer.term, answer.last_epoch), answer.holder_id)

    def status(self) -> dict[str, Any]:
        """For status pages."""
        lease = self.lease()
        return {
            "writes": lease is not None,
            "superseded_by": None
            if self.superseded_by is None
            else {"term": self.superseded_by[0], "holder_id": self.superseded_by[1]},
        }
