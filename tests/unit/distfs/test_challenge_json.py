"""T-7.8: state files of every age can be read, and nothing of a state is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.distfs.challenge_json import cursor_from_json, cursor_to_json, target_from_json, target_to_json
from agent_world.distfs.challenge_policy import Backoff, TargetRecord
from agent_world.distfs.probe import ProbeCursorState
from agent_world.errors import DecodeError
from agent_world.wire.challenge import FailureReason

BACKOFF = Backoff(
    consecutive_failure_rounds=3,
    backoff_until_unix_ms=900,
    cumulative_backoff_skipped_rounds=4,
    cumulative_backoff_applied_ms=500,
    last_backoff_duration_ms=200,
    last_backoff_reason=FailureReason.TIMEOUT,
    last_backoff_multiplier=2,
)
CURSOR = ProbeCursorState(
    next_blob_cursor=7,
    last_hash=content_hash(b"x"),
    rounds_executed=9,
    cumulative_total_checks=20,
    cumulative_passed_checks=18,
    cumulative_failed_checks=2,
    cumulative_failure_reasons={FailureReason.HASH_MISMATCH: 2},
    last_probe_unix_ms=800,
    backoff=BACKOFF,
)
KEYS = {
    "next_blob_cursor", "rounds_executed", "cumulative_total_checks", "cumulative_passed_checks",
    "cumulative_failed_checks", "cumulative_failure_reasons", "consecutive_failure_rounds", "backoff_until_unix_ms",
    "last_probe_unix_ms", "cumulative_backoff_skipped_rounds", "cumulative_backoff_applied_ms",
    "last_backoff_duration_ms", "last_backoff_reason", "last_backoff_multiplier",
}  # fmt: skip
OLDEST = (
    "next_blob_cursor", "rounds_executed", "cumulative_total_checks", "cumulative_passed_checks",
    "cumulative_failed_checks", "cumulative_failure_reasons",
)  # fmt: skip
OLDER = (*OLDEST, "consecutive_failure_rounds", "backoff_until_unix_ms", "last_probe_unix_ms")


def test_a_full_state_survives_and_has_all_keys() -> None:
    shown = json.loads(json.dumps(cursor_to_json(CURSOR)))
    assert shown.keys() == KEYS | {"last_hash"}
    assert cursor_from_json(shown) == CURSOR


@pytest.mark.parametrize("keys", [OLDEST, OLDER])
def test_states_of_older_versions_get_defaults(keys: tuple[str, ...]) -> None:
    full = cursor_to_json(CURSOR)
    loaded = cursor_from_json({key: full[key] for key in keys})
    assert (loaded.next_blob_cursor, loaded.cumulative_total_checks) == (7, 20)
    assert loaded.backoff.last_backoff_reason is None
    assert loaded.backoff.consecutive_failure_rounds == (3 if keys is OLDER else 0)
    assert cursor_from_json({}) == ProbeCursorState()


def test_a_target_survives() -> None:
    target = TargetRecord(
        backoff=BACKOFF, suspects=(str(cid_of(b"a")), str(cid_of(b"b"))), passed=5, offline=1, contained=2,
        failures={FailureReason.UNKNOWN: 1}, last_checked_ms=77,
    )  # fmt: skip
    assert target_from_json(json.loads(json.dumps(target_to_json(target)))) == target


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(KEYS)), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*sorted(KEYS), "last_hash", "suspects", "failure_reasons"]), VALUES) | VALUES)
def test_whatever_stands_there_is_read_or_refused(table: Any) -> None:
    for read in (cursor_from_json, target_from_json):
        try:
            read(table)
        except DecodeError as error:
            assert error.rule.startswith("D")  # noqa: PT017 - either is right
