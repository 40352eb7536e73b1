"""Messages of protocols/membership: actions by which validators change their set, and how others follow it (D4)."""

from __future__ import annotations

from enum import StrEnum

import attrs

from agent_world.wire.consensus import ValidatorEntry
from agent_world.wire.ids import U64, Hash32, Name, ValidatorId, WorldId


class ChangeKind(StrEnum):
    """What a change does to the set."""

    ADD = "add_validator"
    REMOVE = "remove_validator"
    REPLACE = "replace_validators"
    ROTATE_KEY = "rotate_key"
    SET_STAKE = "set_stake"


@attrs.frozen(slots=True, kw_only=True)
class MembershipChange:
    """membership.change: filed by a validator; takes effect with the next epoch once enough stake has approved.

    The change's id is the id of the action that files it.
    """

    kind: ChangeKind
    validators: tuple[ValidatorEntry, ...]
    """add: the newcomers; replace: the whole set; rotate_key: a member with its new key; set_stake: a member with its
    new stake; remove: none."""
    removed: tuple[ValidatorId, ...]
    """remove: who leaves; none for any other kind."""
    with_lease: bool
    """Valid only while the signer holds the world's lease."""
    reason: Name | None
    """For people."""


@attrs.frozen(slots=True, kw_only=True)
class MembershipApproval:
    """membership.approve: a validator's word on an open change; it may change its mind until the change is decided."""

    change_id: Hash32
    approve: bool


@attrs.frozen(slots=True, kw_only=True)
class GetBoundariesRequest:
    """get_boundaries: where other validators took over, at ``from_height`` or above."""

    world_id: WorldId
    from_height: U64


@attrs.frozen(slots=True, kw_only=True)
class EpochBoundary:
    """A block after which another set decides, with what proves it and that set."""

    block: bytes
    """Encoded WorldBlock."""
    certificate: bytes
    validators: bytes
    """Encoded ValidatorSetRecord, the one that the block names as next_validators_hash."""


@attrs.frozen(slots=True, kw_only=True)
class GetBoundariesResponse:
    """Ascending by height; none if no other set has taken over since."""

    boundaries: tuple[EpochBoundary, ...]
