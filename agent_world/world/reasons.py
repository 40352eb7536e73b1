"""Why a rule may refuse an action that is in a block: stable codes of receipts."""

from __future__ import annotations

from typing import Final

from agent_world.errors import AgentWorldError, ErrorCode
from agent_world.wire.ids import Label

OK: Final = Label("ok")
NOT_AUTHORITY: Final = Label("not_authority")
KEY_TAKEN: Final = Label("key_taken")
INSUFFICIENT_REGISTRATION_QUOTA: Final = Label("insufficient_registration_quota")
UNLIMITED_QUOTA_RESERVED: Final = Label("unlimited_quota_reserved")
TOO_FAST: Final = Label("too_fast")
UNKNOWN_RECIPIENT: Final = Label("unknown_recipient")
ZERO_AMOUNT: Final = Label("zero_amount")
SUPPLY_OVERFLOW: Final = Label("supply_overflow")
INSUFFICIENT_BALANCE: Final = Label("insufficient_balance")
NAME_TOO_LONG: Final = Label("name_too_long")
OBJECT_EXISTS: Final = Label("object_exists")
SIZE_NOT_STATED: Final = Label("size_not_stated")
STORAGE_QUOTA_EXCEEDED: Final = Label("storage_quota_exceeded")

REASONS: Final[dict[Label, str]] = {
    OK: "the action was applied",
    NOT_AUTHORITY: "resource.grant: the signer is not the genesis authority",
    KEY_TAKEN: "agent.register: an actor with this key exists",
    INSUFFICIENT_REGISTRATION_QUOTA: "agent.register: the sponsor's quota is below 1 + the quota it hands over",
    UNLIMITED_QUOTA_RESERVED: "agent.register: a quota of 2^64-1 means unlimited and is genesis' alone to give",
    TOO_FAST: "agent.move: further than the speed limit allows in the time since the last move",
    UNKNOWN_RECIPIENT: "resource.grant, resource.transfer: the recipient is not an actor",
    ZERO_AMOUNT: "resource.grant, resource.transfer: the amount is 0",
    SUPPLY_OVERFLOW: "resource.grant: more than 2^64-1 units of the resource would exist",
    INSUFFICIENT_BALANCE: "resource.transfer: the signer has fewer units than the amount",
    NAME_TOO_LONG: "resource.*, object.create: the name's UTF-8 form does not fit into a state key of 256 bytes",
    OBJECT_EXISTS: "object.create: the object id is taken",
    SIZE_NOT_STATED: "object.create: 0 bytes are stated for content that is not the empty one, or bytes for that",
    STORAGE_QUOTA_EXCEEDED: "object.create: the signer's objects would state more bytes than the world's quota",
}
"""Every code a receipt can carry, and when it does."""


class RuleRefusal(AgentWorldError):
    """A rule refuses the action; the kernel turns it into a receipt, so that it never leaves ``world``."""

    wire_code = ErrorCode.STATE_MISMATCH

    def __init__(self, code: Label) -> None:
        super().__init__(REASONS[code])
        self.code = code


def refuse_unless(condition: bool, code: Label) -> None:
    """Raise RuleRefusal with a code of ``REASONS`` unless the condition holds."""
    if not condition:
        raise RuleRefusal(code)
