from __future__ import annotations

import attrs
import pytest
from one_engine import CONTEXT, KEYS, NAMES

from agent_world.testing.toy_world import validator_set

NEXT = validator_set(dict.fromkeys(NAMES, 2), KEYS)


@pytest.mark.parametrize(("parent_slot", "epoch"), [(0, 0), (6, 0), (7, 1), (8, 1), (15, 2)])
def test_the_epoch_is_that_of_the_first_slot(parent_slot: int, epoch: int) -> None:
    context = attrs.evolve(CONTEXT, parent_slot=parent_slot, epoch_length_slots=8)
    assert context.epoch == epoch
    assert context.slot(0) == parent_slot + 1
    assert context.slot(3) == parent_slot + 4
    assert context.proposer(3) == context.validators.proposer(parent_slot, 3)


@pytest.mark.parametrize(
    ("parent_slot", "round_", "changes"),
    [(0, 0, False), (5, 0, False), (6, 0, True), (5, 1, True), (7, 0, False), (5, 9, True)],
)
def test_the_next_set_takes_over_where_the_next_height_has_a_later_epoch(
    parent_slot: int, round_: int, changes: bool
) -> None:
    context = attrs.evolve(CONTEXT, parent_slot=parent_slot, epoch_length_slots=8, next_validators_hash=NEXT.hash)
    expected = NEXT.hash if changes else CONTEXT.validators.hash
    assert context.next_set_after(context.slot(round_)) == expected
