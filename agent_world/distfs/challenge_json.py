"""What is remembered of targets and of the probe, as JSON: for reports, and in the node's database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_world.distfs.challenge_policy import SUSPECTS_MAX, Backoff, TargetRecord
from agent_world.distfs.probe import ProbeCursorState
from agent_world.errors import DecodeError
from agent_world.wire.challenge import FailureReason
from agent_world.wire.cid import Cid, parse_content_hash
from agent_world.wire.limits import U64_MAX

_COUNTS: Final = (
    "next_blob_cursor",
    "rounds_executed",
    "cumulative_total_checks",
    "cumulative_passed_checks",
    "cumulative_failed_checks",
)
_BACKOFF_COUNTS: Final = (
    "consecutive_failure_rounds",
    "backoff_until_unix_ms",
    "cumulative_backoff_skipped_rounds",
    "cumulative_backoff_applied_ms",
    "last_backoff_duration_ms",
    "last_backoff_multiplier",
)


def cursor_to_json(state: ProbeCursorState) -> dict[str, Any]:
    """All keys of the reference system's state file, and ``last_hash``."""
    shown: dict[str, Any] = {name: getattr(state, name) for name in _COUNTS}
    shown["last_hash"] = None if state.last_hash is None else state.last_hash.hex()
    shown["cumulative_failure_reasons"] = reasons_to_json(state.cumulative_failure_reasons)
    shown["last_probe_unix_ms"] = state.last_probe_unix_ms
    return {**shown, **backoff_to_json(state.backoff)}


def cursor_from_json(table: object) -> ProbeCursorState:
    """Inverse of ``cursor_to_json``; keys that older files lack get their defaults. Raises DecodeError."""
    given = _mapping(table)
    text, probed = given.get("last_hash"), given.get("last_probe_unix_ms")
    if text is not None and not isinstance(text, str):
        raise DecodeError("D6", "last_hash is not a text")
    return ProbeCursorState(
        **{name: _count(given, name) for name in _COUNTS},
        last_hash=None if text is None else parse_content_hash(text),
        cumulative_failure_reasons=reasons_from_json(given.get("cumulative_failure_reasons", {})),
        last_probe_unix_ms=None if probed is None else _count(given, "last_probe_unix_ms"),
        backoff=backoff_from_json(given),
    )


def backoff_to_json(backoff: Backoff) -> dict[str, Any]:
    """Its fields under their names."""
    reason = backoff.last_backoff_reason
    shown: dict[str, Any] = {name: getattr(backoff, name) for name in _BACKOFF_COUNTS}
    return {**shown, "last_backoff_reason": None if reason is None else reason.value}


def backoff_from_json(table: object) -> Backoff:
    """Inverse of ``backoff_to_json``; what is missing gets its default. Raises DecodeError."""
    given = _mapping(table)
    reason = given.get("last_backoff_reason")
    return Backoff(
        **{name: _count(given, name) for name in _BACKOFF_COUNTS},
        last_backoff_reason=None if reason is None else _reason(reason),
    )


def reasons_to_json(reasons: Mapping[FailureReason, int]) -> dict[str, int]:
    """Counts by label, in the order of the labels."""
    return {reason.value: reasons[reason] for reason in FailureReason if reasons.get(reason)}


def reasons_from_json(table: object) -> dict[FailureReason, int]:
    """Inverse of ``reasons_to_json``; raises DecodeError."""
    given = _mapping(table)
    return {_reason(label): _count(given, label) for label in given}


def target_to_json(target: TargetRecord) -> dict[str, Any]:
    """All fields; inverse of ``target_from_json``."""
    return {
        "passed_checks": target.passed,
        "failed_checks": target.failed,
        "failure_reasons": reasons_to_json(target.failures),
        "offline": target.offline,
        "contained": target.contained,
        "suspects": list(target.suspects),
        "last_checked_ms": target.last_checked_ms,
        **backoff_to_json(target.backoff),
    }


def target_from_json(table: object) -> TargetRecord:
    """Inverse of ``target_to_json``; raises DecodeError."""
    given = _mapping(table)
    suspects = given.get("suspects", [])
    if not isinstance(suspects, list) or len(suspects) > SUSPECTS_MAX:
        raise DecodeError("D6", "suspects is not a short list")
    return TargetRecord(
        backoff=backoff_from_json(given),
        suspects=tuple(str(Cid.parse(str(text))) for text in suspects),
        passed=_count(given, "passed_checks"),
        offline=_count(given, "offline"),
        contained=_count(given, "contained"),
        failures=reasons_from_json(given.get("failure_reasons", {})),
        last_checked_ms=_count(given, "last_checked_ms"),
    )


def _mapping(table: object) -> Mapping[Any, Any]:
    if not isinstance(table, Mapping):
        raise DecodeError("D6", "not a table")
    return table


def _count(given: Mapping[Any, Any], name: str) -> int:
    value = given.get(name, 0)
    if type(value) is not int or not 0 <= value <= U64_MAX:
        raise DecodeError("D6", f"{name} is not a count")
    return value


def _reason(label: object) -> FailureReason:
    try:
        return FailureReason(str(label))
    except ValueError:
        raise DecodeError("D6", f"{str(label)[:80]!r} is not a reason") from None
