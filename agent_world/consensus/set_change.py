"""Changes of the validator set: what each makes of a set, and whether the validators have approved it (D4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

import attrs

from agent_world.config import require
from agent_world.consensus.stake import PosStatus
from agent_world.consensus.validators import ValidatorSet
from agent_world.errors import LocalError, UsageError
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.ids import PublicKey, ValidatorId
from agent_world.wire.membership import ChangeKind, MembershipChange


class Unfit(StrEnum):
    """Why a change cannot be made to a set; the words are codes of receipts."""

    MALFORMED = "change_malformed"
    """The fields are not those of its kind."""
    EXISTS = "validator_exists"
    UNKNOWN = "validator_unknown"
    KEY_IN_USE = "validator_key_in_use"
    NOTHING = "change_without_effect"
    SET_INVALID = "validator_set_invalid"
    """No validator left, too many of them, or stakes that cannot be counted."""


class ChangeUnfit(LocalError):
    """The change cannot be made to this set."""

    def __init__(self, why: Unfit) -> None:
        super().__init__(f"the change does not fit the validator set: {why}")
        self.why = why


def changed_set(
    current: ValidatorSetRecord, change: MembershipChange, key_owners: Mapping[PublicKey, ValidatorId]
) -> ValidatorSetRecord:
    """The set after a change; raises ChangeUnfit.

    ``key_owners`` names for the keys in the change whose they are or were: a key never passes to another validator,
    or evidence against the one would strike the other.
    """
    members = {entry.validator_id: entry for entry in current.validators}
    _check_form(change)
    _check_keys(change.validators, key_owners)
    match change.kind:
        case ChangeKind.ADD:
            _require(not any(entry.validator_id in members for entry in change.validators), Unfit.EXISTS)
            members.update((entry.validator_id, entry) for entry in change.validators)
        case ChangeKind.REMOVE:
            _require(all(validator_id in members for validator_id in change.removed), Unfit.UNKNOWN)
            for validator_id in change.removed:
                del members[validator_id]
        case ChangeKind.REPLACE:
            members = {entry.validator_id: entry for entry in change.validators}
        case ChangeKind.ROTATE_KEY | ChangeKind.SET_STAKE:
            (entry,) = change.validators
            _require(entry.validator_id in members, Unfit.UNKNOWN)
            _require(_kept(change.kind, members[entry.validator_id], entry), Unfit.MALFORMED)
            members[entry.validator_id] = entry
    made = _with_members(current, members.values())
    _require(made != current, Unfit.NOTHING)
    return made


def without(current: ValidatorSetRecord, validator_id: ValidatorId) -> ValidatorSetRecord:
    """The set without one member; the same set if it is none, or the only one (an empty set is refused)."""
    rest = [entry for entry in current.validators if entry.validator_id != validator_id]
    return _with_members(current, rest) if rest else current


def approval_status(
    validators: ValidatorSet, approvals: Collection[ValidatorId], rejections: Collection[ValidatorId]
) -> PosStatus:
    """What the words of the current set's members decide; who is not in it does not count."""
    return validators.status(_stake_of(validators, approvals), _stake_of(validators, rejections))


def _stake_of(validators: ValidatorSet, ids: Collection[ValidatorId]) -> int:
    return sum(entry.stake for entry in map(validators.by_id, set(ids)) if entry is not None)


def _check_form(change: MembershipChange) -> None:
    counts = len(change.validators), len(change.removed)
    match change.kind:
        case ChangeKind.REMOVE:
            right = counts[0] == 0 and counts[1] > 0 and len(set(change.removed)) == counts[1]
        case ChangeKind.ADD | ChangeKind.REPLACE:
            right = counts[0] > 0 and counts[1] == 0
        case ChangeKind.ROTATE_KEY | ChangeKind.SET_STAKE:
            right = counts == (1, 0)
    _require(right, Unfit.MALFORMED)
    ids = [entry.validator_id for entry in change.validators]
    _require(len(set(ids)) == len(ids), Unfit.MALFORMED)


def _check_keys(entries: Sequence[ValidatorEntry], key_owners: Mapping[PublicKey, ValidatorId]) -> None:
    for entry in entries:
        owner = key_owners.get(entry.public_key)
        _require(owner is None or owner == entry.validator_id, Unfit.KEY_IN_USE)


def _kept(kind: ChangeKind, old: ValidatorEntry, new: ValidatorEntry) -> bool:
    """Whether only what the kind names is changed."""
    return old.stake == new.stake if kind is ChangeKind.ROTATE_KEY else old.public_key == new.public_key


def _with_members(current: ValidatorSetRecord, members: Collection[ValidatorEntry]) -> ValidatorSetRecord:
    ordered = tuple(sorted(members, key=lambda entry: entry.validator_id.encode()))
    made = attrs.evolve(current, validators=ordered)
    try:
        require(len({entry.public_key for entry in ordered}) == len(ordered), "two validators have the same key")
        ValidatorSet(made).require_byzantine_safe()
    except UsageError:
        raise ChangeUnfit(Unfit.SET_INVALID) from None
    return made


def _require(condition: bool, why: Unfit) -> None:
    if not condition:
        raise ChangeUnfit(why)
