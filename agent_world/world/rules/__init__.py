"""The built-in rules: one file a rule, and the table the kernel looks them up in."""

from __future__ import annotations

from typing import Any, Final

from agent_world.wire.action import (
    ACQUIRE_LEASE,
    CREATE_OBJECT,
    GRANT,
    MEMBERSHIP_APPROVE,
    MEMBERSHIP_CHANGE,
    MOVE,
    REGISTER,
    RELEASE_LEASE,
    RENEW_LEASE,
    REPORT_EVIDENCE,
    TRANSFER,
)
from agent_world.wire.ids import Label
from agent_world.world.rules.agent_move import move_agent
from agent_world.world.rules.agent_register import register_agent
from agent_world.world.rules.context import Handler
from agent_world.world.rules.evidence_report import report_evidence
from agent_world.world.rules.lease import acquire_lease, release_lease, renew_lease
from agent_world.world.rules.membership_change import approve_change, file_change
from agent_world.world.rules.object_create import create_object
from agent_world.world.rules.resource_grant import grant_resource
from agent_world.world.rules.resource_transfer import transfer_resource

HANDLERS: Final[dict[Label, Handler[Any]]] = {
    REGISTER: register_agent,
    MOVE: move_agent,
    GRANT: grant_resource,
    TRANSFER: transfer_resource,
    CREATE_OBJECT: create_object,
    MEMBERSHIP_CHANGE: file_change,
    MEMBERSHIP_APPROVE: approve_change,
    REPORT_EVIDENCE: report_evidence,
    ACQUIRE_LEASE: acquire_lease,
    RENEW_LEASE: renew_lease,
    RELEASE_LEASE: release_lease,
}
"""The rule of every action kind of ``wire.action.PAYLOADS``."""
