"""Where actions wait: rules A1 to A14, the mempool, and the opened actions beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent_world.config import BatchRules, MempoolConfig
from agent_world.crypto.hashing import hash32
from agent_world.errors import Refused
from agent_world.handlers.submit import Admitted
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.sequencer.batch import Batch, CommittedAction, PendingAction
from agent_world.sequencer.mempool import Mempool
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import ActorId, Hash32, PeerId
from agent_world.world.admission import SignedAction, check_against_state, open_action


class ActionPool:
    """Pending actions of one node."""

    def __init__(self, ledger: Ledger, config: MempoolConfig, clock: Clock) -> None:
        self._ledger = ledger
        self._config = config
        self._clock = clock
        self._opened: dict[Hash32, SignedAction] = {}
        self.mempool = Mempool(config)
        self.counters = Counters()
        self.arrived: Callable[[SignedAction, PeerId | None], None] = lambda _action, _source: None
        """Called for every action that is new here, with the peer it came from by gossip or request."""

    def admit(self, data: bytes, *, source: PeerId | None) -> Admitted:
        """Rules A1 to A14; raises Refused with code and rule, counted by rule."""
        try:
            admitted = self._admit(data, source)
        except Refused as error:
            self.counters.add(f"action.refused.{error.rule or error.code}")
            raise
        self.counters.add("action.admitted" if admitted.is_new else "action.duplicate")
        return admitted

    def _admit(self, data: bytes, source: PeerId | None) -> Admitted:
        action_id = hash32(data)
        if action_id in self._opened or self._ledger.is_committed(action_id):
            return Admitted(action_id, False)
        action = open_action(data, self._ledger.world_id, self._ledger.genesis_hash)
        check_against_state(action, self._ledger.state, self._config.nonce_window)
        envelope = action.envelope
        pending = PendingAction(
            action_id=action_id,
            actor_id=envelope.actor_id,
            nonce=envelope.nonce,
            timestamp_ms=envelope.timestamp_ms,
            size_bytes=len(data),
            data=data,
            payload_hash=envelope.payload_hash,
        )
        is_new = self.mempool.add(pending, self._clock.wall_ms(), self._next_nonce(envelope.actor_id))
        self._opened[action_id] = action
        self._forget_evicted()
        if is_new:
            self.arrived(action, source)
        return Admitted(action_id, is_new)

    def _forget_evicted(self) -> None:
        if len(self._opened) != len(self.mempool):
            self._opened = {key: action for key, action in self._opened.items() if key in self.mempool}

    def _next_nonce(self, actor_id: ActorId) -> int:
        return self._ledger.next_nonce(actor_id) or 1

    def get(self, action_id: bytes) -> SignedAction | None:
        """A pending action by its id."""
        return self._opened.get(Hash32(action_id))

    def find_body(self, content: ContentHash) -> bytes | None:
        """The bytes of a pending action, so that validators can fetch a proposal's bodies."""
        action = self.get(content)
        return None if action is None else action.data

    @property
    def capacity(self) -> int:
        """How many actions may wait here."""
        return self._config.max_actions

    def pending_ids(self) -> list[Hash32]:
        """Ids of all pending actions, first arrived first."""
        return [action.action_id for action in self.mempool.arrivals()]

    def pending_of(self, actor_id: ActorId) -> int:
        """How many actions of this actor wait here."""
        return self.mempool.pending_of(actor_id)

    def batch(self, rules: BatchRules) -> Batch:
        """What the next block of this node would hold; the actions stay in the pool until they are committed."""
        batch = self.mempool.reserve(rules, self._next_nonce)
        self._forget_evicted()
        return batch

    def committed(self, actions: Sequence[SignedAction]) -> None:
        """A block was committed: drop its actions, and what its nonces made impossible."""
        self.mempool.on_committed(
            CommittedAction(action_id=action.action_id, actor_id=action.envelope.actor_id, nonce=action.envelope.nonce)
            for action in actions
        )
        for action in actions:
            self._opened.pop(action.action_id, None)
        self._forget_evicted()
