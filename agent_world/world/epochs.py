"""Which validators decide which heights: the sets in the state and how they follow each other (D4).

A block at the end of an epoch hands over to the set that its parent's state names. What the block itself brings
about counts from the epoch after that: the set of a height is fixed by its parent, in whatever round it is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import attrs

from agent_world.consensus.context import HeightContext
from agent_world.consensus.stake import slot_epoch
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.wire import record
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.ids import U64, Hash32, Name, PublicKey, ValidatorId
from agent_world.world.events import MembershipDecided, ValidatorsChanged
from agent_world.world.reasons import CHANGE_LAPSED, CHANGE_SEATS_OFFENDER
from agent_world.world.records import (
    ACTORS,
    CHANGES,
    CLOCK,
    KEY_OWNERS,
    NEXT_VALIDATORS,
    OPEN_CHANGES,
    VALIDATORS,
    WORLD,
    ActorRecord,
    KeyOwnerRecord,
    OpenChangesRecord,
)
from agent_world.world.state import WorldState

CHANGE_EPOCHS_MAX: Final = 2
"""A change that is not decided so many epochs after its own lapses: its approvals were of another time."""


@attrs.frozen(slots=True, kw_only=True)
class Handover:
    """What the parent's state says about the end of this block."""

    epoch: int
    """Of the heights after this block."""
    is_due: bool
    """The next height lies in a later epoch than this one."""
    successor: ValidatorSetRecord | None
    """The set that then takes over; None if it stays the same."""


def handover(parent: WorldState, slot: int) -> Handover:
    """What happens to the sets at the end of the block with ``slot`` on this parent."""
    length = parent.need(WORLD).epoch_length_slots
    epoch = slot_epoch(length, slot + 1)
    return Handover(
        epoch=epoch,
        is_due=epoch != slot_epoch(length, parent.need(CLOCK).slot + 1),
        successor=parent.get(NEXT_VALIDATORS),
    )


def epoch_of_next(state: WorldState) -> int:
    """Epoch of the height after this state."""
    return slot_epoch(state.need(WORLD).epoch_length_slots, state.need(CLOCK).slot + 1)


def height_context(state: WorldState, parent_hash: Hash32, known: ValidatorSet | None = None) -> HeightContext:
    """What the height after this state starts from; ``known`` is used again if it is still the set."""
    world, clock, validators = state.need(WORLD), state.need(CLOCK), state.need(VALIDATORS)
    current = known if known is not None and known.record == validators else ValidatorSet(validators)
    coming = state.get(NEXT_VALIDATORS)
    return HeightContext(
        world_id=world.world_id,
        genesis_hash=world.genesis_hash,
        height=clock.height + 1,
        parent_hash=parent_hash,
        parent_slot=clock.slot,
        parent_timestamp_ms=clock.timestamp_ms,
        validators=current,
        next_validators_hash=current.hash if coming is None else hash32(record.to_bytes(coming)),
        epoch_length_slots=world.epoch_length_slots,
    )


def coming_validators(state: WorldState) -> ValidatorSetRecord:
    """The set of the next epoch as things stand."""
    return state.get(NEXT_VALIDATORS) or state.need(VALIDATORS)


def put_coming(state: WorldState, validators: ValidatorSetRecord) -> None:
    """Make this the set of the next epoch."""
    if validators == state.need(VALIDATORS):
        state.delete(NEXT_VALIDATORS)
    else:
        state.put(NEXT_VALIDATORS, validators)


def hand_over(work: WorldState, due: Handover, emit: Callable[[object], None]) -> None:
    """End the epoch if it is due: seat the successor and let old changes lapse."""
    if not due.is_due:
        return
    if due.successor is not None:
        coming = coming_validators(work)
        work.put(VALIDATORS, due.successor)
        put_coming(work, coming)
        emit(ValidatorsChanged(epoch=U64(due.epoch), validators_hash=hash32(record.to_bytes(due.successor))))
    _let_lapse(work, due.epoch, emit)


def _let_lapse(work: WorldState, epoch: int, emit: Callable[[object], None]) -> None:
    for change_id in open_changes(work):
        found = work.get(CHANGES, change_id.hex())
        if found is None or found.filed_in_epoch + CHANGE_EPOCHS_MAX < epoch:
            close_change(work, change_id)
            emit(MembershipDecided(change_id=change_id, approved=False, code=CHANGE_LAPSED))


def open_changes(state: WorldState) -> tuple[Hash32, ...]:
    """Ids of the changes that wait for approvals, oldest first."""
    found = state.get(OPEN_CHANGES)
    return () if found is None else found.change_ids


def close_change(state: WorldState, change_id: Hash32) -> None:
    """Take a decided change out of the state."""
    left = tuple(other for other in open_changes(state) if other != change_id)
    if left:
        state.put(OPEN_CHANGES, OpenChangesRecord(change_ids=left))
    else:
        state.delete(OPEN_CHANGES)
    state.delete(CHANGES, change_id.hex())


def drop_changes_that_seat(state: WorldState, validator_id: ValidatorId, emit: Callable[[object], None]) -> None:
    """Close the open changes that name a validator which has just been found out: they were filed without knowing."""
    for change_id in open_changes(state):
        found = state.get(CHANGES, change_id.hex())
        if found is not None and any(entry.validator_id == validator_id for entry in found.change.validators):
            close_change(state, change_id)
            emit(MembershipDecided(change_id=change_id, approved=False, code=CHANGE_SEATS_OFFENDER))


def key_owners(state: WorldState, entries: Iterable[ValidatorEntry]) -> Mapping[PublicKey, ValidatorId]:
    """Whose the keys of these entries are or were; the authority's belongs to nobody who may vote (D3)."""
    found = {entry.public_key: state.get(KEY_OWNERS, entry.public_key.hex()) for entry in entries}
    owners = {key: owner.validator_id for key, owner in found.items() if owner is not None}
    authority = state.need(WORLD).authority
    return {**owners, **{key: NOBODY for key in found if actor_id_of(key) == authority}}


NOBODY: Final = ValidatorId("")
"""No validator can have this id."""


def seat_validators(state: WorldState, entries: Iterable[ValidatorEntry]) -> None:
    """Note whose keys these are, and let every one of them act: a validator's key is an actor's as well."""
    for entry in entries:
        state.put(KEY_OWNERS, KeyOwnerRecord(validator_id=entry.validator_id), entry.public_key.hex())
        actor_id = actor_id_of(entry.public_key)
        if state.get(ACTORS, actor_id) is None:
            actor = ActorRecord(
                name=Name(entry.validator_id),
                public_key=entry.public_key,
                nonce=U64(0),
                registration_quota=U64(0),
                storage_used_bytes=U64(0),
            )
            state.put(ACTORS, actor, actor_id)
