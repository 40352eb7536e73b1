"""The quorum's records of one world: attempts, the committed floor, what to publish, and what is pruned."""

from __future__ import annotations

from agent_world.consensus.quorum_records import (
    SEATS_PER_WORLD_MAX,
    QuorumDecision,
    QuorumRecord,
    QuorumRefusal,
    QuorumSet,
    QuorumVote,
    demand,
)
from agent_world.consensus.quorum_state import WorldState
from agent_world.consensus.stake import PosStatus
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U64, Hash32, WorldId
from agent_world.wire.limits import U64_MAX

Key = tuple[int, int]
"""(height, attempt)."""


class QuorumWorld:
    """Records of one world by height and attempt. Every method either does its work or raises and changes nothing."""

    def __init__(self, world_id: WorldId, records_max: int) -> None:
        self._world_id = world_id
        self._records_max = records_max
        self._records: dict[Key, QuorumRecord] = {}
        self._pending: set[Key] = set()
        self._last_attempt: dict[int, int] = {}
        self._first_attempt = 0
        self._seats = 0
        self.committed_floor = 0
        """Highest height that was ever committed; never lowered, whatever is pruned (Q-2)."""
        self.published_height = 0
        """Highest height whose publication was confirmed."""
        self.unpublished: WorldHead | None = None
        """The head at the floor until its publication is confirmed: an outbox of one, the newest replaces it (Q-6)."""
        self.pruned = 0
        """Records dropped so far."""

    @classmethod
    def restored(cls, state: WorldState, records_max: int) -> QuorumWorld:
        """The world of a state that was checked; what is above ``records_max`` is pruned."""
        world = cls(state.world_id, records_max)
        for found in state.records:
            world._put(found)
        world.committed_floor, world.published_height = state.committed_floor, state.published_height
        world.unpublished, world._first_attempt = state.unpublished, state.first_attempt
        world._drop(world._to_make_room(0, 0)[0])
        return world

    def state(self) -> WorldState:
        """Everything to be stored."""
        return WorldState(
            world_id=self._world_id,
            committed_floor=U64(self.committed_floor),
            published_height=U64(self.published_height),
            first_attempt=U64(self._first_attempt),
            unpublished=self.unpublished,
            records=tuple(self._records[key] for key in sorted(self._records)),
        )

    @property
    def has_pending(self) -> bool:
        """Whether a record is open."""
        return bool(self._pending)

    def record_at(self, height: int, attempt: int | None = None) -> QuorumRecord | None:
        """The record of this attempt, or of the last one."""
        return self._records.get((height, self._last_attempt.get(height, -1) if attempt is None else attempt))

    def propose(self, head: WorldHead, vote: QuorumVote, members: QuorumSet, attempt: int | None) -> QuorumDecision:
        """Open a record for the head if there is none, and count the proposer's vote.

        ``attempt`` None is the one that is open. A height whose last attempt was rejected opens the next one (Q-3).
        """
        floor = self.committed_floor
        demand(head.height > floor, QuorumRefusal.STALE_HEIGHT, f"height {head.height}; {floor} is committed")
        found = self.record_at(head.height)
        if found is None:
            open_attempt = self._first_attempt
        else:
            open_attempt = found.attempt + (found.status is PosStatus.REJECTED)
        demand(
            attempt in (None, open_attempt) and open_attempt < U64_MAX,
            QuorumRefusal.WRONG_ATTEMPT,
            f"attempt {attempt} at height {head.height}; {open_attempt} is open",
        )
        if found is not None and found.attempt == open_attempt:
            demand(found.head == head, QuorumRefusal.CONFLICTING_HEAD, f"another head at height {head.height}")
            return self._count(found, vote)
        self._make_room(members)
        opened = QuorumRecord(
            head=head,
            attempt=U64(open_attempt),
            proposer_id=vote.validator_id,
            proposed_at_ms=vote.voted_at_ms,
            set_version=members.version,
            quorum_threshold=members.quorum_threshold,
            validator_count=U64(len(members.validators)),
            votes=(),
        )
        return self._count(opened, vote)

    def vote(self, found: QuorumRecord, block_hash: Hash32, vote: QuorumVote) -> QuorumDecision:
        """Count a vote on a record of this world."""
        demand(found.head.block_hash == block_hash, QuorumRefusal.HASH_MISMATCH, f"height {found.head.height}")
        return self._count(found, vote)

    def confirm(self, head: WorldHead) -> bool:
        """Note that a head was published; whether it was the one that waited for it. Repetitions change nothing."""
        demand(head.height <= self.committed_floor, QuorumRefusal.NOT_COMMITTED, f"height {head.height}")
        waiting = self.unpublished
        if waiting is not None and waiting.height == head.height:
            demand(waiting == head, QuorumRefusal.NOT_COMMITTED, f"another head at height {head.height}")
            self.unpublished = None
        self.published_height = max(self.published_height, head.height)
        return waiting is not None and self.unpublished is None

    def drop_sets_before(self, version: int) -> None:
        """Prune the records of older member sets; none of them is open, or the set could not have changed."""
        self._drop([key for key, found in self._records.items() if found.set_version < version])

    def _count(self, found: QuorumRecord, vote: QuorumVote) -> QuorumDecision:
        known = found.vote_of(vote.validator_id)
        if known is not None:
            demand(known.approve == vote.approve, QuorumRefusal.CHANGED_VOTE, f"{vote.validator_id} voted otherwise")
            return QuorumDecision.on(found)
        demand(found.status is PosStatus.PENDING, QuorumRefusal.RECORD_FINAL, f"height {found.head.height} is decided")
        counted = found.with_vote(vote)
        self._put(counted)
        publish = None
        if counted.status is PosStatus.COMMITTED and counted.head.height > self.committed_floor:
            # A lower height that commits late is a record like any other, but never the head again.
            self.committed_floor = counted.head.height
            self.unpublished = publish = counted.head
        return QuorumDecision.on(counted, publish)

    def _put(self, found: QuorumRecord) -> None:
        key = found.head.height, found.attempt
        if key not in self._records:
            self._seats += found.validator_count
            self._last_attempt[found.head.height] = found.attempt
        self._records[key] = found
        if found.status is PosStatus.PENDING:
            self._pending.add(key)
        else:
            self._pending.discard(key)

    def _make_room(self, members: QuorumSet) -> None:
        keys, is_enough = self._to_make_room(1, len(members.validators))
        demand(is_enough, QuorumRefusal.TOO_MANY_RECORDS, f"{len(self._pending)} records are open")
        self._drop(keys)

    def _to_make_room(self, records: int, seats: int) -> tuple[list[Key], bool]:
        """The lowest finalised records whose going makes room for so much more, and whether it does."""
        records += len(self._records) - self._records_max
        seats += self._seats - SEATS_PER_WORLD_MAX
        if records <= 0 and seats <= 0:
            return [], True
        keys: list[Key] = []
        for key in sorted(self._records.keys() - self._pending):
            if records <= 0 and seats <= 0:
                break
            keys.append(key)
            records -= 1
            seats -= self._records[key].validator_count
        return keys, records <= 0 and seats <= 0

    def _drop(self, keys: list[Key]) -> None:
        for height, attempt in keys:
            gone = self._records.pop((height, attempt))
            self._seats -= gone.validator_count
            self.pruned += 1
            if self._last_attempt[height] == attempt:
                del self._last_attempt[height]
            if gone.status is PosStatus.REJECTED:
                # Or votes on the attempt that was forgotten would count again in one of the same number.
                self._first_attempt = max(self._first_attempt, attempt + 1)
