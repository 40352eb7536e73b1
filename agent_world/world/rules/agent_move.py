"""agent.move: an agent goes to a position, no faster than the world allows."""

from __future__ import annotations

from typing import Final

from agent_world.wire.action import MoveAgent
from agent_world.world.events import AgentMoved
from agent_world.world.reasons import TOO_FAST, refuse_unless
from agent_world.world.records import POSITIONS, WORLD, PositionRecord
from agent_world.world.rules.context import RuleContext

_MS_PER_S: Final = 1000


def move_agent(context: RuleContext, payload: MoveAgent) -> None:
    """Move the signer. Its first move is its arrival: it may appear anywhere, as it was nowhere before."""
    before = context.state.get(POSITIONS, context.actor_id)
    if before is not None:
        speed = context.state.need(WORLD).params.move_speed_max_cm_per_s
        elapsed_ms = context.timestamp_ms - before.moved_at_ms
        refuse_unless(is_within_speed(before, payload, speed, elapsed_ms), TOO_FAST)
    position = PositionRecord(x_cm=payload.x_cm, y_cm=payload.y_cm, z_cm=payload.z_cm, moved_at_ms=context.timestamp_ms)
    context.state.put(POSITIONS, position, context.actor_id)
    context.emit(AgentMoved(actor_id=context.actor_id, x_cm=payload.x_cm, y_cm=payload.y_cm, z_cm=payload.z_cm))


def is_within_speed(start: PositionRecord, end: MoveAgent, speed_cm_per_s: int, elapsed_ms: int) -> bool:
    """Whether distance <= speed x time, exactly: distance^2 * 1000^2 <= (speed * elapsed_ms)^2, in whole numbers."""
    squared = (end.x_cm - start.x_cm) ** 2 + (end.y_cm - start.y_cm) ** 2 + (end.z_cm - start.z_cm) ** 2
    return squared * _MS_PER_S**2 <= (speed_cm_per_s * elapsed_ms) ** 2
