"""Changes of the quorum's members, and what each makes of a set and its threshold."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from agent_world.consensus.quorum_records import QuorumRefusal, QuorumRefused, QuorumSet, demand, majority
from agent_world.errors import UsageError
from agent_world.wire.ids import ValidatorId


@attrs.frozen(slots=True)
class AddValidator:
    """One member more; without effect if it is one."""

    validator_id: str


@attrs.frozen(slots=True)
class RemoveValidator:
    """One member less; refused if it is none."""

    validator_id: str


@attrs.frozen(slots=True)
class ReplaceValidators:
    """Another set with a threshold of its own, 0 for the majority: also the way to lower a threshold."""

    validators: tuple[str, ...]
    quorum_threshold: int = 0


QuorumChange = AddValidator | RemoveValidator | ReplaceValidators


@attrs.frozen(slots=True, kw_only=True)
class ChangeResult:
    """The members after a change; ``applied`` says whether they or the threshold are others than before."""

    applied: bool
    validators: tuple[ValidatorId, ...]
    quorum_threshold: int


def changed_members(current: QuorumSet, change: QuorumChange) -> QuorumSet:
    """The set after a change, the same object if nothing differs. Raises QuorumRefused.

    Adding and removing never lower the threshold until there are fewer members than it: 3 of 4 becomes 3 of 3.
    """
    if isinstance(change, ReplaceValidators):
        return _next(current, change.validators, change.quorum_threshold)
    name = change.validator_id.strip()
    demand(bool(name), QuorumRefusal.MALFORMED, "the validator_id is blank")
    if isinstance(change, AddValidator):
        names = [*current.validators, name]
    else:
        demand(name in current.validators, QuorumRefusal.UNKNOWN_VALIDATOR, f"{name!r:.80} is not a member")
        names = [member for member in current.validators if member != name]
    size = len(set(names))
    return _next(current, names, min(size, max(current.quorum_threshold, majority(size))))


def _next(current: QuorumSet, names: Iterable[str], threshold: int) -> QuorumSet:
    try:
        made = QuorumSet.of(current.version + 1, names, threshold)
    except UsageError as error:
        raise QuorumRefused(QuorumRefusal.INVALID_SET, str(error)) from None
    same = (made.validators, made.quorum_threshold) == (current.validators, current.quorum_threshold)
    return current if same else made
