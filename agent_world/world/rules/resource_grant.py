"""resource.grant: the genesis authority creates units of a resource."""

from __future__ import annotations

from agent_world.wire.action import GrantResource
from agent_world.wire.ids import U64
from agent_world.wire.limits import U64_MAX
from agent_world.world.events import ResourceGranted
from agent_world.world.reasons import NOT_AUTHORITY, SUPPLY_OVERFLOW, ZERO_AMOUNT, refuse_unless
from agent_world.world.records import BALANCES, SUPPLIES, WORLD, BalanceRecord, SupplyRecord
from agent_world.world.rules.context import RuleContext, require_key_fits


def grant_resource(context: RuleContext, payload: GrantResource) -> None:
    """Raise the supply and the recipient's balance by the amount; the supply stays below 2^64."""
    state = context.state
    refuse_unless(context.actor_id == state.need(WORLD).authority, NOT_AUTHORITY)
    refuse_unless(payload.amount > 0, ZERO_AMOUNT)
    require_key_fits(BALANCES.key(payload.to_actor_id, payload.resource))
    context.require_recipient(payload.to_actor_id)
    supply = state.get(SUPPLIES, payload.resource) or SupplyRecord(amount=U64(0))
    refuse_unless(supply.amount + payload.amount <= U64_MAX, SUPPLY_OVERFLOW)
    balance = state.get(BALANCES, payload.to_actor_id, payload.resource) or BalanceRecord(amount=U64(0))
    state.put(SUPPLIES, SupplyRecord(amount=U64(supply.amount + payload.amount)), payload.resource)
    # A balance is at most the supply, so it cannot overflow where the supply does not.
    raised = BalanceRecord(amount=U64(balance.amount + payload.amount))
    state.put(BALANCES, raised, payload.to_actor_id, payload.resource)
    context.emit(ResourceGranted(resource=payload.resource, to_actor_id=payload.to_actor_id, amount=payload.amount))
