"""Actions that wait for a block: bounded, in nonce order per actor, fair across actors.

Per actor there is a queue by nonce; the actor's *head* is the action with exactly the next nonce, and only heads can
be taken. ``_ready`` is a heap of the heads' order keys. Entries of it that no longer are a head are skipped when they
are met, so that every operation costs O(log n).

Actions leave the pool when they are committed, displaced or found impossible, never by being reserved: a proposal
that fails loses nothing (K-6.2). A committed action cannot come back, since its nonce is used up (K-6.3).
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from agent_world.config import BatchRules, MempoolConfig
from agent_world.errors import ErrorCode, Refused
from agent_world.sequencer.batch import Batch, CommittedAction, PendingAction
from agent_world.wire.ids import ActorId, Hash32

OrderKey = tuple[int, Hash32]
"""(timestamp in ms, clamped to the arrival; action id): the order across actors."""


@attrs.frozen(slots=True, eq=False)  # an entry is itself only; comparing contents would cost
class _Entry:
    action: PendingAction
    key: OrderKey


@attrs.define(slots=True)
class _Queue:
    """One actor's actions; every nonce in it is at least ``next_nonce``."""

    next_nonce: int
    by_nonce: dict[int, _Entry] = attrs.Factory(dict)


class Mempool:
    """The pending actions of one node."""

    def __init__(self, config: MempoolConfig) -> None:
        self._config = config
        self._by_id: OrderedDict[Hash32, _Entry] = OrderedDict()  # in order of arrival
        self._queues: dict[ActorId, _Queue] = {}
        self._gapped: OrderedDict[ActorId, None] = OrderedDict()  # actors without a head, the longest waiting first
        self._ready: list[OrderKey] = []
        self._size_bytes = 0
        self._counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, action_id: object) -> bool:
        return action_id in self._by_id

    @property
    def size_bytes(self) -> int:
        """Encoded size of all pending actions."""
        return self._size_bytes

    @property
    def has_ready(self) -> bool:
        """Whether some actor's next action is here, so that a batch would not be empty."""
        return len(self._queues) > len(self._gapped)

    def counters(self) -> Mapping[str, int]:
        """Since start, by what happened.

        added, committed, removed; refused: duplicate, used_nonce, beyond_window, nonce_taken, actor_limit, full;
        dropped: superseded (its nonce was committed by another action), evicted_oldest, displaced, oversized.
        """
        return dict(self._counters)

    def get(self, action_id: Hash32) -> PendingAction | None:
        """The pending action of this id."""
        entry = self._by_id.get(action_id)
        return entry.action if entry else None

    def pending_of(self, actor_id: ActorId) -> int:
        """How many actions of this actor wait here."""
        queue = self._queues.get(actor_id)
        return len(queue.by_nonce) if queue else 0

    def arrivals(self) -> Iterator[PendingAction]:
        """All pending actions, first arrived first; the pool must not change while this is read."""
        return (entry.action for entry in self._by_id.values())

    def add(self, action: PendingAction, now_ms: int, next_nonce: int) -> bool:
        """Take in an admitted action; ``next_nonce`` is its actor's next one in the committed state.

        True if it is new, False if this very action is pending already (A13). Raises Refused with A9, A10, A11, A12
        or A14. A full pool makes room only for an action that could be executed now, by displacing one that could
        not; with ``evict_oldest`` it drops the oldest arrival for any newcomer.
        """
        # [IGNORE] A13: the action is pending already: nothing changes, and its submitter is told that it is pending.
        if action.action_id in self._by_id:
            self._counters["duplicate"] += 1
            return False
        queue = self._queues.get(action.actor_id)
        if queue is not None and next_nonce > queue.next_nonce:
            self._advance(action.actor_id, queue, next_nonce)
            queue = self._queues.get(action.actor_id)
        expected = max(next_nonce, queue.next_nonce) if queue else next_nonce
        self._check_nonce(action, expected, queue)
        self._make_room(action, queue, executable=action.nonce == expected)
        drift = self._config.drift_ms
        # Clamped, so that nobody gets ahead of the others by more than the drift with a false clock.
        clamped_ms = min(max(action.timestamp_ms, now_ms - drift), now_ms + drift)
        entry = _Entry(action, (clamped_ms, action.action_id))
        self._by_id[action.action_id] = entry
        queue = self._queues.setdefault(action.actor_id, _Queue(expected))
        queue.by_nonce[action.nonce] = entry
        self._size_bytes += action.size_bytes
        self._counters["added"] += 1
        self._place(action.actor_id, queue)
        return True

    def remove(self, action_id: Hash32) -> PendingAction | None:
        """Drop an action, such as one that cannot be executed; returns it if it was pending."""
        entry = self._by_id.get(action_id)
        if entry is None:
            return None
        self._drop(entry, "removed")
        return entry.action

    def on_committed(self, committed: Iterable[CommittedAction]) -> None:
        """A block was committed: remove its actions, and those whose nonce another action has used up."""
        for action in committed:
            queue = self._queues.get(action.actor_id)
            if queue is not None and action.nonce >= queue.next_nonce:
                self._advance(action.actor_id, queue, action.nonce + 1, action.action_id)

    def reserve(self, rules: BatchRules, next_nonce_of: Callable[[ActorId], int]) -> Batch:
        """Cut a batch without removing it: per actor in nonce order, across actors by ``OrderKey``.

        ``next_nonce_of`` gives an actor's next nonce in the state on which the batch will be executed. An action
        that does not fit into what is left of the budget is passed over with the rest of its actor's queue, at most
        ``scan_past_misfits`` times; it does not starve, since by its timestamp it comes earlier and earlier. An
        action above ``max_payload_bytes`` can never be ordered and is dropped.
        """
        walk = _Walk(rules)
        heads: dict[OrderKey, None] = {}
        try:
            while not walk.is_over:
                key = self._next_key(walk.following, heads)
                if key is None:
                    break
                entry = self._by_id[key[1]]
                queue = self._queues[entry.action.actor_id]
                if key in heads and not self._is_current(entry.action.actor_id, queue, next_nonce_of):
                    continue
                if entry.action.size_bytes > rules.max_payload_bytes:
                    self._drop(entry, "oversized")
                elif walk.take(entry):
                    following = queue.by_nonce.get(entry.action.nonce + 1)
                    if following is not None:
                        heapq.heappush(walk.following, following.key)
        finally:
            for key in heads:
                heapq.heappush(self._ready, key)
        return Batch.of(walk.taken)

    def _next_key(self, following: list[OrderKey], heads: dict[OrderKey, None]) -> OrderKey | None:
        """The smallest key among the heads and the successors of what was taken; pops it. Notes a head in ``heads``."""
        while self._ready and (not following or self._ready[0] < following[0]):
            key = heapq.heappop(self._ready)
            if key not in heads and self._is_head(key):
                heads[key] = None
                return key
        return heapq.heappop(following) if following else None

    def _is_head(self, key: OrderKey) -> bool:
        entry = self._by_id.get(key[1])
        return entry is not None and entry.key == key and entry.action.nonce == self._queue_of(entry).next_nonce

    def _is_current(self, actor_id: ActorId, queue: _Queue, next_nonce_of: Callable[[ActorId], int]) -> bool:
        """Whether the state expects this head; a head that the state has passed is dropped for the one after it."""
        expected = next_nonce_of(actor_id)
        is_expected = expected == queue.next_nonce
        if expected > queue.next_nonce:
            self._advance(actor_id, queue, expected)
        return is_expected

    def _check_nonce(self, action: PendingAction, expected: int, queue: _Queue | None) -> None:
        if action.nonce < expected:
            raise self._refused("used_nonce", ErrorCode.STATE_MISMATCH, "A9", f"the next nonce is {expected}")
        if action.nonce > expected + self._config.nonce_window:
            raise self._refused(
                "beyond_window", ErrorCode.STATE_MISMATCH, "A10",
                f"the next nonce is {expected}, and at most {self._config.nonce_window} more may wait",
            )  # fmt: skip
        # [IGNORE] A14: no other action of this actor with this nonce is pending; the first to arrive stays.
        if queue is not None and action.nonce in queue.by_nonce:
            raise self._refused(
                "nonce_taken", ErrorCode.STATE_MISMATCH, "A14", f"another action with nonce {action.nonce} is pending"
            )

    def _make_room(self, action: PendingAction, queue: _Queue | None, *, executable: bool) -> None:
        """Find room for a newcomer or raise Refused; drops nothing unless it then fits."""
        victims: list[_Entry] = []
        # [IGNORE] A11: the actor has fewer than max_per_actor actions pending. Its next action may take the place of
        # its last one: otherwise a full queue that lacks just the next nonce could never move again.
        if queue is not None and len(queue.by_nonce) >= self._config.max_per_actor:
            if not executable:
                raise self._refused(
                    "actor_limit", ErrorCode.RATE_LIMITED, "A11", f"{len(queue.by_nonce)} actions of this actor wait"
                )
            victims.append(queue.by_nonce[max(queue.by_nonce)])
        # [IGNORE] A12: the pool has room.
        excess_actions = len(self) - len(victims) + 1 - self._config.max_actions
        excess_bytes = self._size_bytes + action.size_bytes - self._config.max_bytes
        excess_bytes -= sum(victim.action.size_bytes for victim in victims)
        candidates = self._victims(executable, victims[:1])
        while excess_actions > 0 or excess_bytes > 0:
            victim = next(candidates, None)
            if victim is None:
                raise self._refused("full", ErrorCode.BUSY, "A12", f"{len(self)} actions wait; try again later")
            victims.append(victim)
            excess_actions -= 1
            excess_bytes -= victim.action.size_bytes
        for victim in victims:
            self._drop(victim, "evicted_oldest" if self._config.evict_oldest else "displaced")

    def _victims(self, executable: bool, chosen: list[_Entry]) -> Iterator[_Entry]:
        """What else than ``chosen`` may go for a newcomer, in order."""
        if self._config.evict_oldest:
            yield from (entry for entry in self._by_id.values() if entry not in chosen)
        elif executable:
            for actor_id in self._gapped:
                by_nonce = self._queues[actor_id].by_nonce
                last_first = (by_nonce[nonce] for nonce in sorted(by_nonce, reverse=True))
                yield from (entry for entry in last_first if entry not in chosen)

    def _advance(self, actor_id: ActorId, queue: _Queue, next_nonce: int, committed: Hash32 | None = None) -> None:
        """The state now expects ``next_nonce``; ``committed`` is the action that used the nonce before it."""
        passed = range(queue.next_nonce, next_nonce)
        shorter = passed if len(passed) < len(queue.by_nonce) else sorted(queue.by_nonce)
        used = [nonce for nonce in shorter if nonce in passed and nonce in queue.by_nonce]
        queue.next_nonce = next_nonce
        for nonce in used:
            entry = queue.by_nonce[nonce]
            self._drop(entry, "committed" if entry.action.action_id == committed else "superseded")
        if not used:
            self._place(actor_id, queue)

    def _drop(self, entry: _Entry, reason: str) -> None:
        action = entry.action
        queue = self._queues[action.actor_id]
        del self._by_id[action.action_id]
        del queue.by_nonce[action.nonce]
        self._size_bytes -= action.size_bytes
        self._counters[reason] += 1
        self._place(action.actor_id, queue)

    def _place(self, actor_id: ActorId, queue: _Queue) -> None:
        """After a change of a queue: its head into the heap, or its actor among the gapped; an empty one goes."""
        head = queue.by_nonce.get(queue.next_nonce)
        if head is not None:
            self._gapped.pop(actor_id, None)
            heapq.heappush(self._ready, head.key)
            # Skipped entries stay in the heap until they are met; this bounds it at a few times the pool.
            if len(self._ready) > 2 * len(self._by_id) + 64:
                self._ready = [other.key for other in self._heads()]
                heapq.heapify(self._ready)
        elif queue.by_nonce:
            self._gapped.setdefault(actor_id)
        else:
            del self._queues[actor_id]
            self._gapped.pop(actor_id, None)

    def _heads(self) -> Iterator[_Entry]:
        for queue in self._queues.values():
            if (head := queue.by_nonce.get(queue.next_nonce)) is not None:
                yield head

    def _queue_of(self, entry: _Entry) -> _Queue:
        return self._queues[entry.action.actor_id]

    def _refused(self, counter: str, code: ErrorCode, rule: str, message: str) -> Refused:
        self._counters[counter] += 1
        return Refused(code, message, rule=rule)


class _Walk:
    """One pass over the candidates: what was taken so far, and when to stop."""

    def __init__(self, rules: BatchRules) -> None:
        self._rules = rules
        self._size_bytes = 0
        self._misfits = 0
        self.taken: list[PendingAction] = []
        self.following: list[OrderKey] = []
        """Heap of the keys of the taken actions' successors."""

    @property
    def is_over(self) -> bool:
        """Whether the batch is full by number, or too many misfits were met."""
        return len(self.taken) >= self._rules.max_actions or self._misfits > self._rules.scan_past_misfits

    def take(self, entry: _Entry) -> bool:
        """Take the action if it fits into what is left of the byte budget."""
        if self._size_bytes + entry.action.size_bytes > self._rules.max_payload_bytes:
            self._misfits += 1
            return False
        self._size_bytes += entry.action.size_bytes
        self.taken.append(entry.action)
        return True
