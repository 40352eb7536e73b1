from __future__ import annotations

import sys
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_engine import CONTEXT, KEYS, NAMES, WORLD

from agent_world.consensus.stake import PosStatus, expected_proposer
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import UsageError
from agent_world.testing.toy_world import validator_set
from agent_world.wire import record
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.ids import U64, PublicKey, ValidatorId
from agent_world.wire.limits import U64_MAX, VALIDATORS_MAX

GOOD = WORLD.sets[0].record


def entries(*stakes: int) -> tuple[ValidatorEntry, ...]:
    return tuple(
        ValidatorEntry(validator_id=name, public_key=KEYS[name].public_key, stake=U64(stake))
        for name, stake in zip(NAMES, stakes, strict=False)
    )


def of_many(count: int) -> tuple[ValidatorEntry, ...]:
    return tuple(
        ValidatorEntry(
            validator_id=ValidatorId(f"n{index:04}"), public_key=PublicKey(index.to_bytes(32, "big")), stake=U64(1)
        )
        for index in range(count)
    )


def test_what_is_derived() -> None:
    validators = ValidatorSet(attrs.evolve(GOOD, validators=entries(40, 30, 20, 10)))
    assert (validators.total_stake, validators.required_stake, validators.skip_stake) == (100, 67, 34)
    assert validators.hash == hash32(record.to_bytes(validators.record))
    first = validators.record.validators[0]
    assert validators.by_key(first.public_key) == validators.by_id(first.validator_id) == first
    assert validators.by_key(PublicKey(bytes(32))) is None
    assert validators.by_id(ValidatorId("nobody")) is None
    assert validators == ValidatorSet(validators.record)


@pytest.mark.parametrize(
    "bad",
    [
        attrs.evolve(GOOD, validators=()),
        attrs.evolve(GOOD, validators=GOOD.validators[::-1]),
        attrs.evolve(GOOD, validators=(GOOD.validators[0], GOOD.validators[0])),
        attrs.evolve(GOOD, validators=(GOOD.validators[0], attrs.evolve(GOOD.validators[0], validator_id="v9"))),
        attrs.evolve(GOOD, validators=entries(1, 0)),
        attrs.evolve(GOOD, validators=entries(U64_MAX, 1)),
        attrs.evolve(GOOD, validators=of_many(VALIDATORS_MAX + 1)),
        attrs.evolve(GOOD, supermajority_numerator=1, supermajority_denominator=2),
    ],
    ids=["empty", "order", "id twice", "key twice", "no stake", "overflow", "too many", "half"],
)
def test_a_bad_set_is_refused(bad: ValidatorSetRecord) -> None:
    with pytest.raises(UsageError):
        ValidatorSet(bad)


def test_the_largest_set() -> None:
    validators = ValidatorSet(attrs.evolve(GOOD, validators=of_many(VALIDATORS_MAX)))
    assert validators.total_stake == VALIDATORS_MAX
    assert validators.proposer(7, 2**32 - 1)


def test_a_far_round_costs_one_pass_over_the_largest_set() -> None:
    """Any member can name one after the other, and each was once a quarter of a second of everybody's time."""
    validators = ValidatorSet(attrs.evolve(GOOD, validators=of_many(VALIDATORS_MAX)))
    encoded = 0

    def count(_frame: object, event: str, called: Any) -> None:
        nonlocal encoded
        encoded += event == "c_call" and called.__name__ == "encode"

    sys.setprofile(count)
    try:
        validators.proposer(7, 100 * VALIDATORS_MAX - 1)
    finally:
        sys.setprofile(None)
    assert 0 < encoded <= 2 * VALIDATORS_MAX


@pytest.mark.parametrize(("numerator", "denominator", "safe"), [(2, 3, True), (666, 1000, False), (51, 100, False)])
def test_the_engine_asks_for_two_thirds(numerator: int, denominator: int, safe: bool) -> None:
    validators = ValidatorSet(
        attrs.evolve(GOOD, supermajority_numerator=U64(numerator), supermajority_denominator=U64(denominator))
    )
    if safe:
        validators.require_byzantine_safe()
        return
    with pytest.raises(UsageError, match="below 2/3"):
        validators.require_byzantine_safe()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 1_000), min_size=1, max_size=12))
def test_thresholds_of_safety_and_progress(stakes: list[int]) -> None:
    names = [ValidatorId(f"x{index:02}") for index in range(len(stakes))]
    keys = {name: KeyPair(hash32(name.encode())) for name in names}
    validators = validator_set(dict(zip(names, stakes, strict=True)), keys)
    total, required = validators.total_stake, validators.required_stake
    faulty_max = validators.skip_stake - 1
    assert 3 * faulty_max < total <= 3 * (faulty_max + 1)
    assert 2 * required - total > faulty_max, "two quorums share an honest validator"
    assert total - faulty_max >= required, "the honest ones are a quorum"


def test_what_decides_is_the_kernels_word() -> None:
    validators = CONTEXT.validators
    assert [validators.is_quorum(stake) for stake in (0, 2, 3, 4)] == [False, False, True, True]
    assert [validators.status(2, rejected) for rejected in (1, 2)] == [PosStatus.PENDING, PosStatus.REJECTED]


def test_round_0_is_the_kernels_draw() -> None:
    stakes = {entry.validator_id: int(entry.stake) for entry in GOOD.validators}
    for parent_slot in range(50):
        assert CONTEXT.validators.proposer(parent_slot, 0) == expected_proposer(stakes, parent_slot + 1)


def test_everybody_has_a_turn_before_anybody_has_a_second() -> None:
    stakes = {entry.validator_id: int(entry.stake) for entry in GOOD.validators}
    for parent_slot in range(20):
        drawn = [CONTEXT.validators.proposer(parent_slot, round_) for round_ in range(12)]
        for turn in range(0, 12, 4):
            assert sorted(drawn[turn : turn + 4]) == sorted(NAMES)
        assert drawn[1] == expected_proposer(stakes, parent_slot + 2, [drawn[0]])
        assert drawn[4] == expected_proposer(stakes, parent_slot + 5)
    far_first = ValidatorSet(GOOD)
    assert far_first.proposer(19, 11) == drawn[11]
