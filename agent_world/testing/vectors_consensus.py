"""Vectors of protocols/consensus: the stake kernel. Any implementation must give these answers."""

from __future__ import annotations

from typing import Any, Final

from agent_world.consensus.stake import decide_pos_status, expected_proposer, proposer_seed, required_stake, slot_epoch
from agent_world.errors import UsageError
from agent_world.wire.ids import ValidatorId
from agent_world.wire.limits import U64_MAX

SETS: Final[dict[str, dict[str, int]]] = {
    "three by name": {"val-a": 40, "val-b": 35, "val-c": 25},
    "nearly equal": {"a": 34, "b": 33, "c": 33},
    "by role": {"n-observer": 33, "n-sequencer": 34, "n-storage": 33},
    "alone": {"only": 1},
    "very unequal": {"big": U64_MAX - 1, "small": 1},
}
"""Validators by id with their stakes."""

_REQUIRED: Final = (
    (100, 2, 3),
    (10, 2**63, U64_MAX),
    (100, 2**63, U64_MAX),
    (3, 2, 3),
    (1, 2, 3),
    (4, 2, 3),
    (U64_MAX, 2, 3),
    (U64_MAX, 1, 1),
    (100, 1, 2),
    (100, 2, 5),
    (100, 3, 2),
    (100, 0, 3),
    (100, 2, 0),
    (0, 2, 3),
    (2**64, 2, 3),
)
_DECISIONS: Final = (
    (100, 67, 67, 0),
    (100, 67, 66, 33),
    (100, 67, 20, 30),
    (100, 67, 20, 33),
    (100, 67, 20, 34),
    (100, 67, 0, 200),
    (100, 67, 67, 33),
)


def stake_kernel_vectors() -> dict[str, Any]:
    """The file ``consensus/vectors/stake_kernel.json``."""
    return {
        "about": "Each case is a call of one kernel function and its answer. `error` in place of `result` means "
        "that the arguments are refused. Integers above 2^53 are text.",
        "cases": [*_required_cases(), *_decision_cases(), *_seed_cases(), *_proposer_cases(), *_epoch_cases()],
    }


def _number(value: int) -> int | str:
    return value if value < 2**53 else str(value)


def _required_cases() -> list[dict[str, Any]]:
    cases = []
    for total, numerator, denominator in _REQUIRED:
        case: dict[str, Any] = {
            "id": f"required_stake {total} x {numerator}/{denominator}",
            "function": "required_stake",
            "total": _number(total),
            "numerator": _number(numerator),
            "denominator": _number(denominator),
        }
        try:
            case["result"] = _number(required_stake(total, numerator, denominator))
        except UsageError:
            case["error"] = True
        cases.append(case)
    return cases


def _decision_cases() -> list[dict[str, Any]]:
    return [
        {
            "id": f"decide_pos_status {total} {required} {approved} {rejected}",
            "function": "decide_pos_status",
            "total_stake": total,
            "required_stake": required,
            "approved_stake": approved,
            "rejected_stake": rejected,
            "result": str(decide_pos_status(total, required, approved, rejected)),
        }
        for total, required, approved, rejected in _DECISIONS
    ]


def _seed_cases() -> list[dict[str, Any]]:
    return [
        {"id": f"proposer_seed {slot}", "function": "proposer_seed", "slot": _number(slot), "result": str(seed)}
        for slot, seed in ((slot, proposer_seed(slot)) for slot in (*range(8), U64_MAX))
    ]


def _proposer_cases() -> list[dict[str, Any]]:
    return [
        _proposer_case(name, slot, excluded)
        for name in SETS
        for slot in (*range(12), 42)
        for excluded in ((), (expected_proposer(_stakes(name), slot),))
    ]


def _stakes(name: str) -> dict[ValidatorId, int]:
    return {ValidatorId(key): stake for key, stake in SETS[name].items()}


def _proposer_case(name: str, slot: int, excluded: tuple[ValidatorId | None, ...]) -> dict[str, Any]:
    left_out = [item for item in excluded if item is not None]
    return {
        "id": f"expected_proposer {name}, slot {slot}, without {', '.join(left_out) or 'nobody'}",
        "function": "expected_proposer",
        "validators": {key: _number(stake) for key, stake in SETS[name].items()},
        "slot": slot,
        "excluded": left_out,
        "result": expected_proposer(_stakes(name), slot, left_out),
    }


def _epoch_cases() -> list[dict[str, Any]]:
    return [
        {
            "id": f"slot_epoch {length} {slot}",
            "function": "slot_epoch",
            "epoch_length_slots": length,
            "slot": slot,
            "result": slot_epoch(length, slot),
        }
        for length, slot in ((32, 0), (32, 31), (32, 32), (32, 65), (1, 7), (0, 7))
    ]
