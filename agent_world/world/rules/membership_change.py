"""membership.change and membership.approve: validators change their own set, with the next epoch (D4)."""

from __future__ import annotations

import attrs

from agent_world.consensus.set_change import ChangeUnfit, approval_status, changed_set
from agent_world.consensus.stake import PosStatus
from agent_world.consensus.validators import ValidatorSet
from agent_world.sequencer import lease
from agent_world.wire.ids import U64, Hash32, Label, ValidatorId
from agent_world.wire.limits import CHANGES_OPEN_MAX
from agent_world.wire.membership import MembershipApproval, MembershipChange
from agent_world.world.epochs import (
    close_change,
    coming_validators,
    epoch_of_next,
    key_owners,
    open_changes,
    put_coming,
    seat_validators,
)
from agent_world.world.events import MembershipDecided, MembershipFiled
from agent_world.world.reasons import (
    CHANGE_REJECTED,
    CHANGE_UNKNOWN,
    LEASE_NOT_YOURS,
    OK,
    TOO_MANY_CHANGES,
    RuleRefusal,
    refuse_unless,
)
from agent_world.world.records import CHANGES, LEASE, OPEN_CHANGES, VALIDATORS, ChangeRecord, OpenChangesRecord
from agent_world.world.rules.context import RuleContext


def file_change(context: RuleContext, payload: MembershipChange) -> None:
    """Open a change; who files it approves it. It must fit the coming set now, and again when it is decided."""
    state = context.state
    requester = context.validator().validator_id
    if payload.with_lease:
        _require_lease(context, requester)
    waiting = open_changes(state)
    refuse_unless(len(waiting) < CHANGES_OPEN_MAX, TOO_MANY_CHANGES)
    try:
        changed_set(coming_validators(state), payload, key_owners(state, payload.validators))
    except ChangeUnfit as error:
        raise RuleRefusal(Label(error.why)) from None
    filed = ChangeRecord(
        change=payload,
        requester_id=requester,
        filed_in_epoch=U64(epoch_of_next(state)),
        approvals=(requester,),
        rejections=(),
    )
    state.put(OPEN_CHANGES, OpenChangesRecord(change_ids=(*waiting, context.action_id)))
    context.emit(MembershipFiled(change_id=context.action_id, requester_id=requester))
    _settle(context, context.action_id, filed)


def approve_change(context: RuleContext, payload: MembershipApproval) -> None:
    """Take down a validator's word; its last one counts."""
    own = context.validator().validator_id
    found = context.state.get(CHANGES, payload.change_id.hex())
    if found is None:
        raise RuleRefusal(CHANGE_UNKNOWN)
    approvals = tuple(other for other in found.approvals if other != own)
    rejections = tuple(other for other in found.rejections if other != own)
    if payload.approve:
        approvals = (*approvals, own)
    else:
        rejections = (*rejections, own)
    _settle(context, payload.change_id, attrs.evolve(found, approvals=approvals, rejections=rejections))


def _require_lease(context: RuleContext, requester: ValidatorId) -> None:
    found = context.state.get(LEASE)
    current = None if found is None else found.lease
    refuse_unless(lease.is_active(current, context.timestamp_ms), lease.NONE)
    refuse_unless(lease.holds(current, requester, context.timestamp_ms), LEASE_NOT_YOURS)


def _settle(context: RuleContext, change_id: Hash32, change: ChangeRecord) -> None:
    """Keep the change open, or make it if enough stake of the current set has approved."""
    state = context.state
    status = approval_status(ValidatorSet(state.need(VALIDATORS)), change.approvals, change.rejections)
    if status is PosStatus.PENDING:
        state.put(CHANGES, change, change_id.hex())
        return
    close_change(state, change_id)
    code = _make(context, change) if status is PosStatus.COMMITTED else CHANGE_REJECTED
    context.emit(MembershipDecided(change_id=change_id, approved=code == OK, code=code))


def _make(context: RuleContext, change: ChangeRecord) -> Label:
    """Apply an approved change to the coming set, which other changes may have moved since it was filed."""
    state = context.state
    entries = change.change.validators
    try:
        put_coming(state, changed_set(coming_validators(state), change.change, key_owners(state, entries)))
    except ChangeUnfit as error:
        return Label(error.why)
    seat_validators(state, entries)
    return OK
