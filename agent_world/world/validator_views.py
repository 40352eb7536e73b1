"""Read-only views of who decides, for people: validator sets, the changes under way, evidence on record."""

from __future__ import annotations

import attrs

from agent_world.consensus.validators import ValidatorSet
from agent_world.wire.consensus import ValidatorEntry
from agent_world.wire.ids import Hash32, ValidatorId
from agent_world.wire.lease import LeaseState
from agent_world.world.epochs import CHANGE_EPOCHS_MAX, epoch_of_next, open_changes
from agent_world.world.records import (
    CHANGES,
    CLOCK,
    EQUIVOCATION_LIST,
    EQUIVOCATIONS,
    LEASE,
    NEXT_VALIDATORS,
    VALIDATORS,
    WORLD,
    ChangeRecord,
    EquivocationPlace,
    EquivocationRecord,
)
from agent_world.world.state import WorldState


@attrs.frozen(slots=True, kw_only=True)
class SetView:
    """One validator set."""

    hash: Hash32
    """What block headers name."""
    total_stake: int
    required_stake: int
    """Stake whose votes decide."""
    validators: tuple[ValidatorEntry, ...]
    """Ascending by id."""


@attrs.frozen(slots=True, kw_only=True)
class ChangeView:
    """A change that waits for approvals, with what it has of the current set."""

    change_id: Hash32
    lapses_after_epoch: int
    approved_stake: int
    rejected_stake: int
    required_stake: int
    change: ChangeRecord


@attrs.frozen(slots=True, kw_only=True)
class EquivocationView:
    """Evidence that was reported."""

    place: EquivocationPlace
    equivocation: EquivocationRecord


@attrs.frozen(slots=True, kw_only=True)
class ValidatorsView:
    """Everything about who decides, after one height."""

    height: int
    """The committed height it is the state of."""
    epoch: int
    """Of the next height."""
    slots_to_boundary: int | None
    """Slots left in that epoch; the block of the last one hands over. None in a world of one endless epoch."""
    current: SetView
    """Decides the next height."""
    coming: SetView | None
    """Takes over with the next epoch as things stand; None if the set stays."""
    changes: tuple[ChangeView, ...]
    """Oldest first."""
    equivocations: int
    """On record in all."""
    newest_equivocations: tuple[EquivocationView, ...]
    lease_term: int
    """Last term of the single writer's lease; 0 before the first."""
    lease: LeaseState | None
    """As granted last; it may have run out."""


def validators_view(state: WorldState) -> ValidatorsView:
    """The view of one state; raises as ``WorldState.get``."""
    clock, length = state.need(CLOCK), state.need(WORLD).epoch_length_slots
    epoch = epoch_of_next(state)
    current = ValidatorSet(state.need(VALIDATORS))
    coming, lease, listed = state.get(NEXT_VALIDATORS), state.get(LEASE), state.get(EQUIVOCATION_LIST)
    return ValidatorsView(
        height=clock.height,
        epoch=epoch,
        slots_to_boundary=(epoch + 1) * length - (clock.slot + 1) if length else None,
        current=_set_view(current),
        coming=None if coming is None else _set_view(ValidatorSet(coming)),
        changes=tuple(_changes(state, current)),
        equivocations=0 if listed is None else listed.count,
        newest_equivocations=() if listed is None else tuple(_equivocations(state, listed.newest)),
        lease_term=0 if lease is None else lease.term,
        lease=None if lease is None else lease.lease,
    )


def _set_view(validators: ValidatorSet) -> SetView:
    return SetView(
        hash=validators.hash,
        total_stake=validators.total_stake,
        required_stake=validators.required_stake,
        validators=validators.record.validators,
    )


def _changes(state: WorldState, current: ValidatorSet) -> list[ChangeView]:
    found = [(change_id, state.get(CHANGES, change_id.hex())) for change_id in open_changes(state)]
    return [
        ChangeView(
            change_id=change_id,
            lapses_after_epoch=change.filed_in_epoch + CHANGE_EPOCHS_MAX,
            approved_stake=_stake(current, change.approvals),
            rejected_stake=_stake(current, change.rejections),
            required_stake=current.required_stake,
            change=change,
        )
        for change_id, change in found
        if change is not None
    ]


def _stake(current: ValidatorSet, names: tuple[ValidatorId, ...]) -> int:
    members = (current.by_id(name) for name in names)
    return sum(member.stake for member in members if member is not None)


def _equivocations(state: WorldState, places: tuple[EquivocationPlace, ...]) -> list[EquivocationView]:
    found = [
        (place, state.get(EQUIVOCATIONS, place.key.hex(), str(place.height), str(place.round))) for place in places
    ]
    return [EquivocationView(place=place, equivocation=one) for place, one in found if one is not None]
