"""The built-in rules: one file a rule, and the table the kernel looks them up in."""

from __future__ import annotations

from typing import Any, Final

from agent_world.wire.action import CREATE_OBJECT, GRANT, MOVE, REGISTER, TRANSFER
from agent_world.wire.ids import Label
from agent_world.world.rules.agent_move import move_agent
from agent_world.world.rules.agent_register import register_agent
from agent_world.world.rules.context import Handler
from agent_world.world.rules.object_create import create_object
from agent_world.world.rules.resource_grant import grant_resource
from agent_world.world.rules.resource_transfer import transfer_resource

HANDLERS: Final[dict[Label, Handler[Any]]] = {
    REGISTER: register_agent,
    MOVE: move_agent,
    GRANT: grant_resource,
    TRANSFER: transfer_resource,
    CREATE_OBJECT: create_object,
}
"""The rule of every action kind of ``wire.action.PAYLOADS``."""
