"""The stake kernel: how much stake decides, and whose turn it is to propose. Pure integers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate

from blake3 import blake3

from agent_world.config import require
from agent_world.wire.ids import ValidatorId
from agent_world.wire.limits import U64_MAX


class PosStatus(StrEnum):
    """What the votes counted so far decide."""

    PENDING = "pending"
    COMMITTED = "committed"
    REJECTED = "rejected"


def required_stake(total: int, numerator: int, denominator: int) -> int:
    """Smallest integer >= total x numerator / denominator.

    All in units of stake. Raises UsageError unless 0 < total <= 2^64-1 and 1/2 < numerator/denominator <= 1. The
    round engine asks for more: ``is_byzantine_safe``.
    """
    require(0 < total <= U64_MAX, f"total stake {total} is not in 1..2^64-1")
    require(0 < numerator <= denominator, f"supermajority {numerator}/{denominator} is not in (0, 1]")
    require(2 * numerator > denominator, f"supermajority {numerator}/{denominator} does not exceed one half")
    return -(-total * numerator // denominator)


def decide_pos_status(total_stake: int, required_stake: int, approved_stake: int, rejected_stake: int) -> PosStatus:
    """COMMITTED once the approvals suffice, REJECTED once they no longer can, else PENDING; all in units of stake."""
    if approved_stake >= required_stake:
        return PosStatus.COMMITTED
    if max(total_stake - rejected_stake, 0) < required_stake:
        return PosStatus.REJECTED
    return PosStatus.PENDING


def is_byzantine_safe(numerator: int, denominator: int) -> bool:
    """Whether two decisions by this ratio share at least a third of the stake: the ratio is 2/3 or more (D4)."""
    return 3 * numerator >= 2 * denominator


def honest_stake(total_stake: int) -> int:
    """Smallest stake that cannot be faulty as a whole, while faulty stake is strictly below a third of the total."""
    return (total_stake - 1) // 3 + 1


def proposer_seed(slot: int) -> int:
    """The number drawn for a slot: the first 8 bytes of BLAKE3(slot as 8 bytes little-endian), little-endian."""
    require(0 <= slot <= U64_MAX, f"slot {slot} is not in 0..2^64-1")
    return int.from_bytes(blake3(slot.to_bytes(8, "little")).digest()[:8], "little")


def expected_proposer(
    validators: Mapping[ValidatorId, int], slot: int, excluded: Collection[ValidatorId] = ()
) -> ValidatorId | None:
    """Draw the proposer of a slot, weighted by stake, from ``validators`` (id -> stake) without the ``excluded``.

    Equal inputs give equal answers on every node. None if no stake is left to draw from.
    """
    candidates = _in_order(item for item in validators.items() if item[0] not in excluded)
    drawn = _draw([stake for _, stake in candidates], slot)
    return None if drawn is None else candidates[drawn][0]


def proposer_order(validators: Mapping[ValidatorId, int], slot: int) -> Iterator[ValidatorId]:
    """The proposers of ``slot`` and of the slots after it, each drawn without those before it, until all were drawn.

    The same as ``expected_proposer`` with the earlier ones excluded, and sorted once: any member may name a round in
    which all have to be drawn.
    """
    candidates = _in_order(validators.items())
    ids, stakes = [validator_id for validator_id, _ in candidates], [stake for _, stake in candidates]
    while (drawn := _draw(stakes, slot)) is not None:
        del stakes[drawn]
        yield ids.pop(drawn)
        slot += 1


def _in_order(stakes: Iterable[tuple[ValidatorId, int]]) -> list[tuple[ValidatorId, int]]:
    """Sorted, never in the order of a mapping: nodes may have learnt the stakes in another order."""
    return sorted(stakes, key=lambda item: item[0].encode())


def _draw(stakes: Sequence[int], slot: int) -> int | None:
    """Whose share of all stake the slot's number falls into; None if there is none."""
    ends = list(accumulate(stakes))
    return bisect_right(ends, proposer_seed(slot) % ends[-1]) if ends and ends[-1] else None


def slot_epoch(epoch_length_slots: int, slot: int) -> int:
    """Number of the epoch that ``slot`` lies in; 0 if the length is 0."""
    return slot // epoch_length_slots if epoch_length_slots else 0
