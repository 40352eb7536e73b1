"""Execution of one block: a function of the state, the block's height, slot and time, and its actions in order.

It reads no clock, no randomness and nothing of the node: two nodes that execute the same block get the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from agent_world.errors import ChainError
from agent_world.wire import record
from agent_world.wire.block import Event, Outcome, Receipt
from agent_world.wire.cid import Cid
from agent_world.wire.ids import U32, U64, Hash32, Label, TimeMs, WorldId
from agent_world.wire.limits import BLOCK_ACTION_BYTES_MAX, BLOCK_ACTIONS_MAX
from agent_world.world.admission import SignedAction
from agent_world.world.epochs import hand_over, handover
from agent_world.world.events import KIND_OF
from agent_world.world.reasons import OK, RuleRefusal
from agent_world.world.records import ACTORS, CLOCK, LEASE, WORLD, ClockRecord
from agent_world.world.rules import HANDLERS
from agent_world.world.rules.context import RuleContext
from agent_world.world.state import WorldState
from agent_world.world.trie import Blobs

_NO_EVENT: Final = U64(0)


@attrs.frozen(slots=True, kw_only=True)
class BlockContext:
    """What execution knows of the block around the actions."""

    world_id: WorldId
    height: U64
    slot: U64
    """Above the parent's."""
    timestamp_ms: TimeMs
    """Block time; later than the parent's."""


@attrs.frozen(slots=True, kw_only=True)
class Execution:
    """What a block does to the world."""

    context: BlockContext
    receipts: tuple[Receipt, ...]
    """One an action, in the same order."""
    events: tuple[Event, ...]
    """Consecutive ids, following the last event of the state before."""
    state_root: Cid
    blobs: Blobs
    """State nodes that are new; to be stored before anything reads ``state_root``."""
    validators_hash: Hash32
    """Of the set that decides this height, fixed by the state before."""
    next_validators_hash: Hash32
    """Of the set that decides the next height, as of ``state_root``."""
    lease_term: U64
    """As of ``state_root``."""
    state: WorldState = attrs.field(eq=False, repr=False)
    """The state of ``state_root``, with what was read and written remembered; reads nodes once they are stored."""


def execute_block(state: WorldState, context: BlockContext, actions: Sequence[SignedAction]) -> Execution:
    """Execute a block on a copy of the parent's state; ``state`` itself stays as it is.

    Raises ChainError when the block is invalid as a whole: another world, a height that does not follow, a slot or time
    not after the parent's, too many or too large actions, an action of no actor or with another's key, a nonce that
    is not the actor's next. Raises NodeMissing when a state node is not stored here: fetch it and execute again.
    """
    work = state.fork()
    clock = work.clock
    _require_follows(work, context, clock)
    _require_size(context.height, actions)
    due = handover(state, context.slot)
    journal = _Journal(context.height, U64(clock.last_event_id + 1))
    receipts = []
    for action in actions:
        _use_nonce(work, context.height, action)
        receipts.append(_execute_action(work, context, action, journal))
    payloads: list[object] = []
    hand_over(work, due, payloads.append)
    journal.add(payloads, caused_by=None)
    work.put(CLOCK, _clock_after(context, U64(clock.last_event_id + len(journal.events))))
    state_root, blobs = work.flush()
    lease = work.get(LEASE)
    return Execution(
        context=context,
        receipts=tuple(receipts),
        events=tuple(journal.events),
        state_root=state_root,
        blobs=blobs,
        validators_hash=state.validators_hash,
        next_validators_hash=work.validators_hash,
        lease_term=U64(0) if lease is None else lease.term,
        state=work,
    )


def _clock_after(context: BlockContext, last_event_id: U64) -> ClockRecord:
    return ClockRecord(
        height=context.height, slot=context.slot, timestamp_ms=context.timestamp_ms, last_event_id=last_event_id
    )


class _Journal:
    """The events of one block so far."""

    def __init__(self, height: U64, first_event_id: U64) -> None:
        self._height = height
        self._first_event_id = first_event_id
        self.events: list[Event] = []

    def add(self, payloads: Sequence[object], *, caused_by: Hash32 | None) -> U64:
        """Number the events of these payloads; the id of the first, 0 if there are none."""
        first = U64(self._first_event_id + len(self.events)) if payloads else _NO_EVENT
        for payload in payloads:
            self.events.append(
                Event(
                    event_id=U64(self._first_event_id + len(self.events)),
                    height=self._height,
                    caused_by=caused_by,
                    kind=KIND_OF[type(payload)],
                    payload_cbor=record.to_bytes(payload),
                )
            )
        return first


def _execute_action(work: WorldState, context: BlockContext, action: SignedAction, journal: _Journal) -> Receipt:
    """Run the action's rule; its writes and events count only if it does not refuse."""
    payloads: list[object] = []
    rule_context = RuleContext(
        state=work,
        actor_id=action.envelope.actor_id,
        action_id=action.action_id,
        height=context.height,
        timestamp_ms=context.timestamp_ms,
        emit=payloads.append,
    )
    try:
        with work.transaction():
            HANDLERS[action.envelope.action_kind](rule_context, action.payload)
    except RuleRefusal as refusal:
        return _receipt(action, Outcome.REJECTED, refusal.code, _NO_EVENT, 0)
    from_event_id = journal.add(payloads, caused_by=action.action_id)
    return _receipt(action, Outcome.APPLIED, OK, from_event_id, len(payloads))


def _receipt(action: SignedAction, outcome: Outcome, code: Label, from_event_id: U64, event_count: int) -> Receipt:
    return Receipt(
        action_id=action.action_id,
        outcome=outcome,
        code=code,
        from_event_id=from_event_id,
        event_count=U32(event_count),
    )


def _use_nonce(work: WorldState, height: int, action: SignedAction) -> None:
    """Advance the actor's nonce, whatever becomes of the action; an action that may not be here spoils the block."""
    envelope = action.envelope
    actor = work.get(ACTORS, envelope.actor_id)
    if actor is None:
        raise ChainError(height, "actor", f"action {action.action_id.hex()} is of {envelope.actor_id}, no actor")
    if action.key != actor.public_key:
        raise ChainError(height, "key", f"action {action.action_id.hex()} is not signed by {envelope.actor_id}'s key")
    if envelope.nonce != actor.nonce + 1:
        raise ChainError(
            height, "nonce", f"action {action.action_id.hex()} has nonce {envelope.nonce}, not {actor.nonce + 1}"
        )
    work.put(ACTORS, attrs.evolve(actor, nonce=envelope.nonce), envelope.actor_id)


def _require_follows(work: WorldState, context: BlockContext, clock: ClockRecord) -> None:
    world = work.need(WORLD)
    if context.world_id != world.world_id:
        raise ChainError(context.height, "world_id", f"the block is for {context.world_id}, not {world.world_id}")
    if context.height != clock.height + 1:
        raise ChainError(context.height, "height", f"the state is of height {clock.height}")
    if context.slot <= clock.slot:
        raise ChainError(context.height, "slot", f"{context.slot} is not after the parent's {clock.slot}")
    if context.timestamp_ms <= clock.timestamp_ms:
        raise ChainError(
            context.height, "timestamp_ms", f"{context.timestamp_ms} is not after the parent's {clock.timestamp_ms}"
        )


def _require_size(height: int, actions: Sequence[SignedAction]) -> None:
    if len(actions) > BLOCK_ACTIONS_MAX:
        raise ChainError(height, "actions", f"{len(actions)} actions; a block has at most {BLOCK_ACTIONS_MAX}")
    size = sum(len(action.data) for action in actions)
    if size > BLOCK_ACTION_BYTES_MAX:
        raise ChainError(height, "actions", f"{size} bytes of actions; at most {BLOCK_ACTION_BYTES_MAX}")
