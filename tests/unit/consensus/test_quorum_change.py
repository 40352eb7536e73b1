from __future__ import annotations

import attrs
import pytest

from agent_world.consensus.quorum_change import (
    AddValidator,
    QuorumChange,
    RemoveValidator,
    ReplaceValidators,
    changed_members,
)
from agent_world.consensus.quorum_records import QuorumRefusal, QuorumRefused, QuorumSet
from agent_world.wire.ids import U64
from agent_world.wire.limits import U64_MAX


def after(names: str, threshold: int, change: QuorumChange) -> tuple[str, int]:
    made = changed_members(QuorumSet.of(1, names, threshold), change)
    return "".join(made.validators), made.quorum_threshold


@pytest.mark.parametrize(
    ("names", "threshold", "change", "expected"),
    [
        ("abc", 2, AddValidator("d"), ("abcd", 3)),
        ("abcd", 3, RemoveValidator("d"), ("abc", 3)),
        ("abc", 3, RemoveValidator(" c "), ("ab", 2)),
        ("abc", 3, AddValidator("d"), ("abcd", 3)),
        ("abc", 2, AddValidator(" a"), ("abc", 2)),
        ("abcd", 4, ReplaceValidators(("c", " d", "", "c"), 0), ("cd", 2)),
        ("abc", 3, ReplaceValidators(("a", "b", "c")), ("abc", 2)),
        ("abc", 2, ReplaceValidators(("x", "y", "z"), 3), ("xyz", 3)),
    ],
)  # fmt: skip
def test_t_m1_members_and_threshold_after(
    names: str, threshold: int, change: QuorumChange, expected: tuple[str, int]
) -> None:
    assert after(names, threshold, change) == expected


def test_a_change_of_nothing_is_the_same_set() -> None:
    members = QuorumSet.of(7, "abc", 2)
    assert changed_members(members, AddValidator("b")) is members
    assert changed_members(members, ReplaceValidators(("c", "b", "a"))) is members
    assert changed_members(members, ReplaceValidators(("c", "b", "a"), 3)).version == 8


@pytest.mark.parametrize(
    ("names", "change", "why"),
    [
        ("abc", AddValidator("  "), QuorumRefusal.MALFORMED),
        ("abc", RemoveValidator(""), QuorumRefusal.MALFORMED),
        ("abc", AddValidator("No Name"), QuorumRefusal.INVALID_SET),
        ("abc", RemoveValidator("d"), QuorumRefusal.UNKNOWN_VALIDATOR),
        ("a", RemoveValidator("a"), QuorumRefusal.INVALID_SET),
        ("abc", ReplaceValidators(()), QuorumRefusal.INVALID_SET),
        ("abc", ReplaceValidators((" ",)), QuorumRefusal.INVALID_SET),
        ("abc", ReplaceValidators(("a", "b"), 1), QuorumRefusal.INVALID_SET),
        ("abc", ReplaceValidators(("a", "b"), 3), QuorumRefusal.INVALID_SET),
    ],
)  # fmt: skip
def test_a_change_that_does_not_fit_is_refused(names: str, change: QuorumChange, why: QuorumRefusal) -> None:
    with pytest.raises(QuorumRefused) as caught:
        after(names, 0, change)
    assert caught.value.why is why


def test_the_last_version() -> None:
    last = attrs.evolve(QuorumSet.of(1, "abc", 0), version=U64(U64_MAX))
    with pytest.raises(QuorumRefused) as caught:
        changed_members(last, AddValidator("d"))
    assert caught.value.why is QuorumRefusal.INVALID_SET
