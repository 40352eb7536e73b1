"""Why a rule may refuse an action that is in a block: stable codes of receipts."""

from __future__ import annotations

from typing import Final

from agent_world.consensus.set_change import Unfit
from agent_world.errors import AgentWorldError, ErrorCode
from agent_world.sequencer import lease
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
NOT_A_VALIDATOR: Final = Label("not_a_validator")
TOO_MANY_CHANGES: Final = Label("too_many_changes")
CHANGE_UNKNOWN: Final = Label("change_unknown")
CHANGE_LAPSED: Final = Label("change_lapsed")
CHANGE_REJECTED: Final = Label("change_rejected")
CHANGE_SEATS_OFFENDER: Final = Label("change_seats_offender")
EVIDENCE_INVALID: Final = Label("evidence_invalid")
EVIDENCE_KNOWN: Final = Label("evidence_known")
LEASE_TTL_TOO_LONG: Final = Label("lease_ttl_too_long")
LEASE_NOT_YOURS: Final = Label("lease_not_yours")

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
    NOT_A_VALIDATOR: "membership.*, lease.*: the signing key is of no validator of this height's set",
    TOO_MANY_CHANGES: "membership.change: too many changes wait for approvals already",
    CHANGE_UNKNOWN: "membership.approve: no such change is open",
    CHANGE_LAPSED: "membership.change: not decided within two epochs (in the event membership.decided)",
    CHANGE_REJECTED: "membership.change: too much stake is against it (in the event membership.decided)",
    CHANGE_SEATS_OFFENDER: "membership.change: who it names contradicted itself (in the event membership.decided)",
    Label(Unfit.MALFORMED): "membership.change: the fields are not those of the change's kind",
    Label(Unfit.EXISTS): "membership.change: a validator to be added is there already",
    Label(Unfit.UNKNOWN): "membership.change: a validator to be removed or changed is not in the set",
    Label(Unfit.KEY_IN_USE): "membership.change: the key is, or was, another validator's or the authority's",
    Label(Unfit.NOTHING): "membership.change: the set would be the same",
    Label(Unfit.SET_INVALID): "membership.change: no validator, too many or uncountable stake would be left",
    EVIDENCE_INVALID: "evidence.report: the two messages prove nothing against a validator of this world",
    EVIDENCE_KNOWN: "evidence.report: this equivocation is on record already",
    LEASE_TTL_TOO_LONG: "lease.acquire, lease.renew: longer than ten minutes",
    LEASE_NOT_YOURS: "lease.renew, lease.release, membership.change with the lease: another validator holds it",
    lease.TTL_NOT_POSITIVE: "lease.acquire, lease.renew: a lease of 0 ms",
    lease.HELD: "lease.acquire: the lease is held, by the signer or another",
    lease.OVERFLOW: "lease.acquire, lease.renew: the term or the end of the lease would overflow",
    lease.NONE: "lease.renew, lease.release, membership.change with the lease: nobody holds it",
    lease.OTHER: "lease.renew, lease.release: another lease is the current one",
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
