from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quorum_sample import A, B, C, head, vote

from agent_world.consensus.quorum_records import (
    QuorumConfig,
    QuorumRecord,
    QuorumRefusal,
    QuorumRefused,
    QuorumSet,
    majority,
)
from agent_world.consensus.stake import PosStatus
from agent_world.errors import ErrorCode, UsageError
from agent_world.wire.ids import U64, TimeMs, ValidatorId


def test_names_are_trimmed_and_blank_and_repeated_ones_left_out() -> None:
    members = QuorumConfig(validators=(" b", "a ", "", "  ", "a")).first_set()
    assert (members.version, members.validators, members.quorum_threshold) == (1, (A, B), 2)


@pytest.mark.parametrize(("size", "threshold"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (256, 129)])
def test_threshold_0_is_the_majority(size: int, threshold: int) -> None:
    assert majority(size) == threshold
    assert QuorumSet.of(1, [f"v{number}" for number in range(size)], 0).quorum_threshold == threshold


@pytest.mark.parametrize(
    "config",
    [
        {"validators": ()},
        {"validators": (" ", "")},
        {"validators": ("Not a name",)},
        {"validators": tuple(f"v{number}" for number in range(257))},
        {"validators": ("a", "b", "c", "d"), "quorum_threshold": 2},
        {"validators": ("a", "b", "c"), "quorum_threshold": 1},
        {"validators": ("a", "b", "c"), "quorum_threshold": 4},
        {"validators": ("a",), "quorum_threshold": -1},
        {"validators": ("a",), "max_records_per_world": 0},
        {"validators": ("a",), "max_records_per_world": 4_097},
    ],
    ids=str,
)
def test_a_config_that_cannot_work_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        QuorumConfig(**config)  # type: ignore[arg-type]


def test_a_set_is_ordered_and_versioned() -> None:
    for version, validators in ((1, (B, A)), (1, (A, A)), (0, (A,)), (2**64, (A,))):
        with pytest.raises(UsageError):
            QuorumSet(version=U64(version), validators=validators, quorum_threshold=U64(len(validators)))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_the_status_machine_of_counts(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    threshold = data.draw(st.integers(majority(count), count))
    words = data.draw(st.lists(st.booleans(), max_size=count))
    found = QuorumRecord(
        head=head(1),
        attempt=U64(0),
        proposer_id=A,
        proposed_at_ms=TimeMs(1),
        set_version=U64(1),
        quorum_threshold=U64(threshold),
        validator_count=U64(count),
        votes=tuple(vote(ValidatorId(f"v{number:02}"), word) for number, word in enumerate(words)),
    )
    approvals, rejections = sum(words), len(words) - sum(words)
    assert (found.approvals, found.rejections) == (approvals, rejections)
    if approvals >= threshold:
        assert found.status is PosStatus.COMMITTED
    elif rejections > count - threshold:
        assert found.status is PosStatus.REJECTED
    else:
        assert found.status is PosStatus.PENDING


def test_votes_stay_in_order() -> None:
    found = QuorumRecord(
        head=head(1), attempt=U64(0), proposer_id=B, proposed_at_ms=TimeMs(1), set_version=U64(1),
        quorum_threshold=U64(2), validator_count=U64(3), votes=(),
    )  # fmt: skip
    for who in (B, C, A):
        found = found.with_vote(vote(who))
    assert [item.validator_id for item in found.votes] == [A, B, C]
    assert found.vote_of(C) == vote(C)
    assert found.vote_of(ValidatorId("d")) is None


def test_a_refusal_has_a_stable_code() -> None:
    refusal = QuorumRefused(QuorumRefusal.STALE_HEIGHT, "height 3")
    assert (str(refusal), refusal.wire_code, refusal.exit_code) == (
        "stale_height: height 3", ErrorCode.BAD_REQUEST, 76,
    )  # fmt: skip
