"""resource.transfer: the signer pays units of a resource to another actor."""

from __future__ import annotations

from agent_world.wire.action import TransferResource
from agent_world.wire.ids import U64, ActorId, Name
from agent_world.world.events import ResourceTransferred
from agent_world.world.reasons import INSUFFICIENT_BALANCE, ZERO_AMOUNT, refuse_unless
from agent_world.world.records import BALANCES, BalanceRecord
from agent_world.world.rules.context import RuleContext, require_key_fits
from agent_world.world.state import WorldState


def transfer_resource(context: RuleContext, payload: TransferResource) -> None:
    """Move the amount; the sum of balances stays what it was. Paying oneself needs the balance and changes nothing."""
    state, resource = context.state, payload.resource
    refuse_unless(payload.amount > 0, ZERO_AMOUNT)
    require_key_fits(BALANCES.key(context.actor_id, resource))
    context.require_recipient(payload.to_actor_id)
    available = _balance(state, context.actor_id, resource)
    refuse_unless(available >= payload.amount, INSUFFICIENT_BALANCE)
    _set_balance(state, context.actor_id, resource, available - payload.amount)
    # Read after the payer was charged, so that paying oneself adds up. The supply bounds the sum below 2^64.
    received = _balance(state, payload.to_actor_id, resource) + payload.amount
    _set_balance(state, payload.to_actor_id, resource, received)
    context.emit(
        ResourceTransferred(
            resource=resource,
            from_actor_id=context.actor_id,
            to_actor_id=payload.to_actor_id,
            amount=payload.amount,
        )
    )


def _balance(state: WorldState, actor_id: ActorId, resource: Name) -> int:
    found = state.get(BALANCES, actor_id, resource)
    return 0 if found is None else found.amount


def _set_balance(state: WorldState, actor_id: ActorId, resource: Name, amount: int) -> None:
    if amount == 0:
        state.delete(BALANCES, actor_id, resource)
    else:
        state.put(BALANCES, BalanceRecord(amount=U64(amount)), actor_id, resource)
