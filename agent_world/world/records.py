"""What the world state holds: one frozen record a kind of entry, and the table of keys they stand under.

Namespace ``system`` is what the kernel needs for any world; ``rules`` belongs to the built-in rules. A key is the
table's prefix, then ``/`` and each part in UTF-8; only the last part may itself contain ``/``. Keys and hashes stand
there as hex digits, ``<h>`` and ``<r>`` are height and round.

============  ======================================  ==========================
namespace     key                                     record
============  ======================================  ==========================
system        ``world``                               WorldRecord
system        ``clock``                               ClockRecord
system        ``validators``                          ValidatorSetRecord
system        ``next_validators``                     ValidatorSetRecord
system        ``validator_key/<public key>``          KeyOwnerRecord
system        ``changes``                             OpenChangesRecord
system        ``change/<change id>``                  ChangeRecord
system        ``equivocation/<public key>/<h>/<r>``   EquivocationRecord
system        ``equivocations``                       EquivocationsRecord
system        ``lease``                               LeaseRecord
system        ``actor/<actor_id>``                    ActorRecord
rules         ``position/<actor_id>``                 PositionRecord
rules         ``balance/<actor_id>/<resource>``       BalanceRecord
rules         ``supply/<resource>``                   SupplyRecord
rules         ``object/<object_id>``                  ObjectRecord
============  ======================================  ==========================
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import attrs

from agent_world.wire.cid import Cid
from agent_world.wire.consensus import ValidatorSetRecord
from agent_world.wire.evidence import EvidenceKind
from agent_world.wire.genesis import WorldParams
from agent_world.wire.ids import (
    I64,
    U16,
    U32,
    U64,
    ActorId,
    Hash32,
    Label,
    Name,
    PublicKey,
    TimeMs,
    ValidatorId,
    WorldId,
)
from agent_world.wire.lease import LeaseState
from agent_world.wire.limits import U64_MAX
from agent_world.wire.membership import MembershipChange
from agent_world.wire.record import V1

R = TypeVar("R")

SYSTEM: Final = Label("system")
RULES: Final = Label("rules")
NAMESPACES: Final = (RULES, SYSTEM)
"""Namespaces every world has from genesis on, ascending."""

UNLIMITED_QUOTA: Final = U64(U64_MAX)
"""Registration quota that is never used up; only genesis gives it, to the authority."""


@attrs.frozen(slots=True, kw_only=True)
class WorldRecord:
    """What genesis fixed and execution reads."""

    v: U16 = U16(V1)
    world_id: WorldId
    genesis_hash: Hash32
    authority: ActorId
    """The actor of genesis: sponsors agents without limit and grants resources."""
    epoch_length_slots: U64
    slash_equivocation: bool
    params: WorldParams


@attrs.frozen(slots=True, kw_only=True)
class ClockRecord:
    """How far the world has come."""

    height: U64
    """Height of the block this state is the result of; 0 at genesis."""
    slot: U64
    """That block's slot; 0 at genesis."""
    timestamp_ms: TimeMs
    """That block's time; the genesis time at height 0."""
    last_event_id: U64
    """Id of the last event so far; 0 before the first."""


@attrs.frozen(slots=True, kw_only=True)
class KeyOwnerRecord:
    """Whose validator key this is or was; never taken back, so that no key serves two validators."""

    validator_id: ValidatorId


@attrs.frozen(slots=True, kw_only=True)
class OpenChangesRecord:
    """The changes of the validator set that are not decided yet, oldest first."""

    change_ids: tuple[Hash32, ...]


@attrs.frozen(slots=True, kw_only=True)
class ChangeRecord:
    """A change of the validator set that waits for approvals."""

    change: MembershipChange
    requester_id: ValidatorId
    filed_in_epoch: U64
    """Epoch of the block that filed it; not decided two epochs later it lapses."""
    approvals: tuple[ValidatorId, ...]
    rejections: tuple[ValidatorId, ...]


@attrs.frozen(slots=True, kw_only=True)
class EquivocationRecord:
    """A validator signed two messages for one height and round."""

    validator_id: ValidatorId
    kind: EvidenceKind
    evidence: Hash32
    """Id of the action that reported it; its payload is the evidence."""
    recorded_at_height: U64


@attrs.frozen(slots=True, kw_only=True)
class EquivocationsRecord:
    """How many equivocations are on record, and the places of the newest."""

    count: U64
    newest: tuple[EquivocationPlace, ...]
    """At most EQUIVOCATIONS_LISTED_MAX, the newest first."""


@attrs.frozen(slots=True, kw_only=True)
class EquivocationPlace:
    """Where an EquivocationRecord stands."""

    key: PublicKey
    height: U64
    round: U32


@attrs.frozen(slots=True, kw_only=True)
class LeaseRecord:
    """The single writer's lease."""

    term: U64
    """Last term granted so far; kept when the lease has ended, so that no term comes twice."""
    lease: LeaseState | None
    """The last one granted or extended, until it is released; it may have run out."""


@attrs.frozen(slots=True, kw_only=True)
class ActorRecord:
    """Who may act."""

    name: Name
    public_key: PublicKey
    nonce: U64
    """Nonce of the actor's last action in a block; 0 before the first."""
    registration_quota: U64
    """How many agents it may still sponsor; ``UNLIMITED_QUOTA`` never falls."""
    storage_used_bytes: U64
    """Sum of the stated sizes of its objects, bounded by WorldParams.actor_storage_quota_bytes."""


@attrs.frozen(slots=True, kw_only=True)
class PositionRecord:
    """Where an agent is, in cm, and since which block time."""

    x_cm: I64
    y_cm: I64
    z_cm: I64
    moved_at_ms: TimeMs


@attrs.frozen(slots=True, kw_only=True)
class BalanceRecord:
    """Units of one resource that one actor owns; the record exists only while there are any."""

    amount: U64


@attrs.frozen(slots=True, kw_only=True)
class SupplyRecord:
    """Units of one resource in the world; always the sum of its balances."""

    amount: U64


@attrs.frozen(slots=True, kw_only=True)
class ObjectRecord:
    """An object whose content lies outside the state; the link keeps the content reachable."""

    owner: ActorId
    content: Cid
    size_bytes: U64
    """As stated by its creator."""
    created_at_height: U64


@attrs.frozen(slots=True, eq=False)  # each is the only one of its kind: found by identity, many times an action
class Table(Generic[R]):
    """Entries of one kind: where they stand and which record they are."""

    namespace: Label
    prefix: str
    record: type[R]

    def key(self, *parts: str) -> bytes:
        """State key of an entry."""
        return "/".join((self.prefix, *parts)).encode()

    def parts(self, key: bytes, count: int) -> tuple[str, ...] | None:
        """Inverse of ``key`` for entries of ``count`` parts; None if the key is not of this table."""
        words = key.decode("utf-8", "replace").split("/", count)
        return tuple(words[1:]) if len(words) == count + 1 and words[0] == self.prefix else None


WORLD: Final = Table(SYSTEM, "world", WorldRecord)
CLOCK: Final = Table(SYSTEM, "clock", ClockRecord)
VALIDATORS: Final = Table(SYSTEM, "validators", ValidatorSetRecord)
"""The set that decides the height after this state."""
NEXT_VALIDATORS: Final = Table(SYSTEM, "next_validators", ValidatorSetRecord)
"""The set that takes over with the next epoch; only while it is another one."""
KEY_OWNERS: Final = Table(SYSTEM, "validator_key", KeyOwnerRecord)
OPEN_CHANGES: Final = Table(SYSTEM, "changes", OpenChangesRecord)
CHANGES: Final = Table(SYSTEM, "change", ChangeRecord)
EQUIVOCATIONS: Final = Table(SYSTEM, "equivocation", EquivocationRecord)
EQUIVOCATION_LIST: Final = Table(SYSTEM, "equivocations", EquivocationsRecord)
LEASE: Final = Table(SYSTEM, "lease", LeaseRecord)
ACTORS: Final = Table(SYSTEM, "actor", ActorRecord)
POSITIONS: Final = Table(RULES, "position", PositionRecord)
BALANCES: Final = Table(RULES, "balance", BalanceRecord)
SUPPLIES: Final = Table(RULES, "supply", SupplyRecord)
OBJECTS: Final = Table(RULES, "object", ObjectRecord)
