"""Each invariant of a swarm of hosts, and that its checker sees it broken."""

from __future__ import annotations

import pytest

from agent_world.errors import ErrorCode
from agent_world.testing.sim_libp2p.swarm_checker import SwarmChecker


@pytest.fixture
def checker() -> SwarmChecker:
    return SwarmChecker()


def broken(checker: SwarmChecker) -> list[tuple[str, str]]:
    return [(violation.invariant, violation.node) for violation in checker.violations]


def test_gossip_gives_a_message_once_to_a_process(checker: SwarmChecker) -> None:
    checker.given("a", b"m")
    checker.given("b", b"m")
    checker.crashed("a")
    checker.given("a", b"m")
    assert broken(checker) == []
    checker.given("a", b"m")
    assert broken(checker) == [("once", "a")]


def test_everybody_has_what_anybody_has(checker: SwarmChecker) -> None:
    checker.messages_held({"a": [b"1", b"2"], "b": [b"2", b"1"]})
    assert broken(checker) == []
    checker.messages_held({"a": [b"1", b"2"], "b": [b"2"]})
    assert broken(checker) == [("complete", "b")]


def test_a_message_is_lost_only_with_the_one_that_made_it(checker: SwarmChecker) -> None:
    checker.published("a", b"1")
    checker.crashed("a")
    checker.messages_held({"a": [], "b": []})
    assert broken(checker) == []
    checker.published("a", b"2")
    checker.messages_held({"a": [], "b": []})
    assert broken(checker) == [("complete", "a"), ("complete", "b")]


def test_a_request_ends_by_its_deadline_with_its_answer_or_a_reason(checker: SwarmChecker) -> None:
    for number in range(4):
        checker.asked(number, "a", deadline_s=5.0)
    checker.answered(0, 1.0, right=True)
    checker.refused(1, 5.0, ErrorCode.TIMEOUT)
    checker.refused(2, 0.1, ErrorCode.NOT_AVAILABLE)
    checker.no_request_hangs(5.0)
    checker.crashed("a")
    checker.no_request_hangs(9.0)
    assert broken(checker) == []


@pytest.mark.parametrize("fault", ["another answer", "late answer", "late refusal", "wrong code", "hangs"])
def test_every_wrong_end_of_a_request_is_seen(checker: SwarmChecker, fault: str) -> None:
    checker.asked(1, "a", deadline_s=5.0)
    match fault:
        case "another answer":
            checker.answered(1, 1.0, right=False)
        case "late answer":
            checker.answered(1, 5.5, right=True)
        case "late refusal":
            checker.refused(1, 5.5, ErrorCode.TIMEOUT)
        case "wrong code":
            checker.refused(1, 1.0, ErrorCode.BAD_REQUEST)
        case "hangs":
            checker.no_request_hangs(5.5)
    assert broken(checker) == [("outcome", "a")]


def test_the_highest_acknowledged_head_is_found(checker: SwarmChecker) -> None:
    checker.head_found("a", None)
    checker.head_put(4, acknowledged=True)
    checker.head_put(5, acknowledged=False)
    checker.head_found("a", 4)
    checker.head_found("a", 5)
    assert broken(checker) == []
    for wrong in (None, 3, 6):
        checker.head_found("b", wrong)
    assert broken(checker) == [("head", "b")] * 3


def test_every_provider_is_found(checker: SwarmChecker) -> None:
    checker.providers_found("a", "p", ["q", "p"])
    assert broken(checker) == []
    checker.providers_found("a", "p", ["q"])
    assert broken(checker) == [("provider", "a")]


def test_links_that_were_dialled_stand_and_hardly_any_others(checker: SwarmChecker) -> None:
    checker.links("a", wanted={"b", "c"}, linked=["b", "c", "d"], needed=2)
    checker.links("b", wanted={"a"}, linked=["a", "c", "d"], needed=2)
    checker.connections("a", {"b": 1, "c": 1})
    assert broken(checker) == []
    checker.links("a", wanted={"b", "c"}, linked=["c"], needed=2)
    checker.links("b", wanted={"a"}, linked=["a", "c", "d", "e"], needed=2)
    checker.connections("c", {"a": 2})
    assert broken(checker) == [("linked", "a"), ("bounded", "b"), ("bounded", "c")]
