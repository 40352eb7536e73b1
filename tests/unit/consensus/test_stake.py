from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.consensus.stake import (
    PosStatus,
    decide_pos_status,
    expected_proposer,
    honest_stake,
    is_byzantine_safe,
    proposer_order,
    proposer_seed,
    required_stake,
    slot_epoch,
)
from agent_world.errors import UsageError
from agent_world.wire.ids import ValidatorId
from agent_world.wire.limits import U64_MAX

SEEDS = [
    (0, 3551464835523403889, 89),
    (1, 8567141067434102042, 42),
    (2, 3445119337017844202, 2),
    (3, 7175107962703238627, 27),
    (4, 7726876305290126212, 12),
    (5, 11029796539448258678, 78),
    (6, 4963732158709402039, 39),
    (7, 15555951067966943855, 55),
]
PROPOSERS = [
    ({"val-a": 40, "val-b": 35, "val-c": 25}, "c b a a a c a b b b b a", "val-"),
    ({"a": 34, "b": 33, "c": 33}, "c b a a a c b b b c c a", ""),
    (
        {"n-observer": 33, "n-sequencer": 34, "n-storage": 33},
        "storage sequencer observer observer observer storage sequencer sequencer sequencer storage storage observer",
        "n-",
    ),
]


def ids(stakes: dict[str, int]) -> dict[ValidatorId, int]:
    return {ValidatorId(name): stake for name, stake in stakes.items()}


@pytest.mark.parametrize(("slot", "seed", "of_100"), SEEDS)
def test_proposer_seed(slot: int, seed: int, of_100: int) -> None:
    assert proposer_seed(slot) == seed
    assert seed % 100 == of_100


@pytest.mark.parametrize(("stakes", "names", "prefix"), PROPOSERS)
def test_t_p4_t_p5_expected_proposer(stakes: dict[str, int], names: str, prefix: str) -> None:
    drawn = [expected_proposer(ids(stakes), slot) for slot in range(12)]
    assert drawn == [f"{prefix}{name}" for name in names.split()]
    assert drawn == [expected_proposer(ids(dict(reversed(stakes.items()))), slot) for slot in range(12)]


def test_slot_42_of_the_nearly_equal_set() -> None:
    assert expected_proposer(ids({"a": 34, "b": 33, "c": 33}), 42) == "c"


def test_nobody_to_draw_from() -> None:
    assert expected_proposer({}, 1) is None
    assert expected_proposer(ids({"a": 0}), 1) is None
    assert expected_proposer(ids({"a": 1}), 1, ["a"]) is None


@pytest.mark.parametrize("slot", [-1, 2**64])
def test_a_slot_out_of_range_is_refused(slot: int) -> None:
    with pytest.raises(UsageError):
        expected_proposer(ids({"a": 1}), slot)


@pytest.mark.parametrize(
    "stakes", [{"a": 50, "b": 30, "c": 20}, {"a": 34, "b": 33, "c": 33}, {"a": 1, "b": 97, "c": 2}]
)
def test_t_p6_the_draw_follows_the_stakes(stakes: dict[ValidatorId, int]) -> None:
    counted = Counter(expected_proposer(stakes, slot) for slot in range(10_000))
    for name, stake in stakes.items():
        assert abs(counted[name] - 100 * stake) < 300


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 2**40), min_size=2), st.integers(0, U64_MAX))
def test_the_excluded_are_never_drawn(stakes: dict[str, int], slot: int) -> None:
    left = list(ids(stakes))
    excluded: list[ValidatorId] = []
    while left:
        drawn = expected_proposer(ids(stakes), slot, excluded)
        assert drawn in left
        left.remove(drawn)
        excluded.append(drawn)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 2**40)), st.integers(0, 2**63))
def test_an_order_is_one_draw_after_the_other(stakes: dict[str, int], slot: int) -> None:
    drawn: list[ValidatorId] = []
    while (found := expected_proposer(ids(stakes), slot + len(drawn), drawn)) is not None:
        drawn.append(found)
    assert list(proposer_order(ids(stakes), slot)) == drawn


@pytest.mark.parametrize(
    ("total", "numerator", "denominator", "required"),
    [
        (100, 2, 3, 67),
        (10, 2**63, U64_MAX, 6),
        (100, 2**63, U64_MAX, 51),
        (3, 2, 3, 2),
        (1, 2, 3, 1),
        (U64_MAX, 1, 1, U64_MAX),
    ],
)
def test_t_p1_t_p2_required_stake(total: int, numerator: int, denominator: int, required: int) -> None:
    assert required_stake(total, numerator, denominator) == required


@pytest.mark.parametrize(
    "arguments",
    [(0, 2, 3), (100, 0, 3), (100, 2, 0), (100, 3, 2), (100, 1, 2), (100, 2, 4), (100, 2, 5), (2**64, 2, 3)],
)
def test_t_p7_half_and_other_ratios_out_of_range_are_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError):
        required_stake(*arguments)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, U64_MAX), st.integers(1, U64_MAX), st.integers(1, U64_MAX))
def test_required_stake_is_the_least_that_suffices(total: int, numerator: int, denominator: int) -> None:
    if not denominator < 2 * numerator <= 2 * denominator:
        return
    required = required_stake(total, numerator, denominator)
    assert 1 <= required <= total
    assert required * denominator >= total * numerator > (required - 1) * denominator


@pytest.mark.parametrize(
    ("approved", "rejected", "status"),
    [
        (67, 0, PosStatus.COMMITTED),
        (20, 30, PosStatus.PENDING),
        (20, 33, PosStatus.PENDING),
        (20, 34, PosStatus.REJECTED),
        (0, 200, PosStatus.REJECTED),
        (67, 34, PosStatus.COMMITTED),
    ],
)
def test_t_p3_decide_pos_status(approved: int, rejected: int, status: PosStatus) -> None:
    assert decide_pos_status(100, 67, approved, rejected) is status


def test_slot_epoch() -> None:
    assert [slot_epoch(32, slot) for slot in (0, 31, 32, 65)] == [0, 0, 1, 2]
    assert slot_epoch(0, 7) == 0


@pytest.mark.parametrize(
    ("numerator", "denominator", "safe"),
    [(2, 3, True), (1, 1, True), (67, 100, True), (66, 100, False), (51, 100, False), (2**63, U64_MAX, False)],
)
def test_the_kernel_takes_ratios_that_the_round_engine_refuses(numerator: int, denominator: int, safe: bool) -> None:
    assert required_stake(100, numerator, denominator) > 50
    assert is_byzantine_safe(numerator, denominator) is safe


def test_honest_stake_is_a_third_rounded_up() -> None:
    assert [honest_stake(total) for total in (1, 2, 3, 4, 6, 7, 100)] == [1, 1, 1, 2, 2, 3, 34]
