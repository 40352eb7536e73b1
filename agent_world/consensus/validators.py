"""A validator set: who may vote, with how much stake, and who proposes in which round (D4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from agent_world.config import require
from agent_world.consensus.stake import (
    PosStatus,
    decide_pos_status,
    honest_stake,
    is_byzantine_safe,
    proposer_order,
    required_stake,
)
from agent_world.crypto.hashing import hash32
from agent_world.wire import record
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.ids import Hash32, PublicKey, ValidatorId
from agent_world.wire.limits import U64_MAX, VALIDATORS_MAX

_Draw = tuple[list[ValidatorId], Iterator[ValidatorId]]
"""Who was drawn so far, and the rest."""
_DRAWS_CACHED_MAX: Final = 16
"""Heights whose proposers are remembered; above it the oldest is drawn again when asked for."""


@attrs.frozen(slots=True)
class ValidatorSet:
    """A checked ValidatorSetRecord with what is derived from it.

    Raises UsageError when built unless: 1..VALIDATORS_MAX members in ascending order of id, ids and keys unique,
    every stake >= 1, the sum fits u64, and the supermajority exceeds one half.
    """

    record: ValidatorSetRecord
    hash: Hash32 = attrs.field(init=False, eq=False)
    """BLAKE3 of the record's bytes: what block headers name."""
    total_stake: int = attrs.field(init=False, eq=False)
    required_stake: int = attrs.field(init=False, eq=False)
    """Stake whose votes decide; ceil(total x supermajority)."""
    _by_key: dict[PublicKey, ValidatorEntry] = attrs.field(init=False, eq=False, repr=False)
    _by_id: dict[ValidatorId, ValidatorEntry] = attrs.field(init=False, eq=False, repr=False)
    _draws: dict[tuple[int, int], _Draw] = attrs.field(init=False, eq=False, repr=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        entries = self.record.validators
        require(bool(entries), "the validator set is empty")
        require(len(entries) <= VALIDATORS_MAX, f"{len(entries)} validators; at most {VALIDATORS_MAX}")
        ids = [entry.validator_id.encode() for entry in entries]
        require(ids == sorted(set(ids)), "validators are not in ascending order of unique ids")
        require(len({entry.public_key for entry in entries}) == len(entries), "two validators have the same key")
        require(all(entry.stake >= 1 for entry in entries), "a validator has no stake")
        total = sum(entry.stake for entry in entries)
        require(total <= U64_MAX, "the sum of stakes does not fit 64 bits")
        set_field = object.__setattr__  # the usual way to fill derived fields of a frozen attrs class
        set_field(self, "hash", hash32(record.to_bytes(self.record)))
        set_field(self, "total_stake", total)
        required = required_stake(total, self.record.supermajority_numerator, self.record.supermajority_denominator)
        set_field(self, "required_stake", required)
        set_field(self, "_by_key", {entry.public_key: entry for entry in entries})
        set_field(self, "_by_id", {entry.validator_id: entry for entry in entries})

    def require_byzantine_safe(self) -> None:
        """Raise UsageError if two decisions could share less than a third of the stake (ratio below 2/3, D4)."""
        numerator, denominator = self.record.supermajority_numerator, self.record.supermajority_denominator
        require(
            is_byzantine_safe(numerator, denominator),
            f"supermajority {numerator}/{denominator} is below 2/3, which the round engine needs",
        )

    @property
    def skip_stake(self) -> int:
        """Smallest stake that cannot be faulty as a whole, while faulty stake is strictly below a third."""
        return honest_stake(self.total_stake)

    def status(self, approved_stake: int, rejected_stake: int = 0) -> PosStatus:
        """What these stakes, in which every member counts once, decide by the kernel."""
        return decide_pos_status(self.total_stake, self.required_stake, approved_stake, rejected_stake)

    def is_quorum(self, stake: int) -> bool:
        """Whether this stake is enough to decide."""
        return self.status(stake) is PosStatus.COMMITTED

    def by_key(self, public_key: PublicKey) -> ValidatorEntry | None:
        """The member with this key."""
        return self._by_key.get(public_key)

    def by_id(self, validator_id: ValidatorId) -> ValidatorEntry | None:
        """The member with this id."""
        return self._by_id.get(validator_id)

    def proposer(self, parent_slot: int, round_: int) -> ValidatorId:
        """Who proposes in round ``round_`` of the height after the block of ``parent_slot``.

        Slot = parent_slot + 1 + round_. The draw leaves out the proposers of earlier rounds; once everybody has had
        a turn it starts anew, so at most VALIDATORS_MAX draws are made however large the round is.
        """
        size = len(self._by_id)
        first = round_ - round_ % size
        found = self._draws.get((parent_slot, first))
        if found is None:
            stakes = {entry.validator_id: int(entry.stake) for entry in self.record.validators}
            found = self._draws[parent_slot, first] = [], proposer_order(stakes, parent_slot + 1 + first)
            if len(self._draws) > _DRAWS_CACHED_MAX:
                self._draws.pop(next(iter(self._draws)))
        drawn, order = found
        while len(drawn) <= round_ - first:
            drawn.append(next(order))  # fewer than all members have been drawn, and each has stake
        return drawn[round_ - first]
