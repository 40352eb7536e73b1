"""Who has content, how good a provider is, and in which order providers are asked. Pure.

Formula, weights and defaults: the reference system, section 3.7. All of it is hints: bytes are verified whoever gives
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from agent_world.config import require
from agent_world.errors import DecodeError
from agent_world.wire.ids import PeerId, check_peer_id
from agent_world.wire.limits import I64_MAX, U64_MAX

_PER_MILLE: Final = 1_000
LATENCY_MS_MAX: Final = 1_000
"""At this latency and above a provider's component is 0."""
UNKNOWN: Final = 0.5
"""Component of what nothing is known about."""


@attrs.frozen(slots=True, kw_only=True)
class ProviderRecord:
    """A provider of some content, with what is known of it; None for what is not."""

    provider_id: PeerId
    last_seen_ms: int
    """When it was last known to be there, wall clock."""
    storage_total_bytes: int | None = None
    storage_available_bytes: int | None = None
    uptime_ratio_per_mille: int | None = None
    challenge_pass_ratio_per_mille: int | None = None
    load_ratio_per_mille: int | None = None
    p50_read_latency_ms: int | None = None


_BOUNDS: Final[Mapping[str, int]] = {
    "storage_total_bytes": U64_MAX,
    "storage_available_bytes": U64_MAX,
    "uptime_ratio_per_mille": 2**16 - 1,
    "challenge_pass_ratio_per_mille": 2**16 - 1,
    "load_ratio_per_mille": 2**16 - 1,
    "p50_read_latency_ms": 2**32 - 1,
}


def provider_json(record: ProviderRecord) -> dict[str, Any]:
    """The record for JSON; what is not known has no key."""
    return {key: value for key, value in attrs.asdict(record).items() if value is not None}


def parse_provider(found: Any) -> ProviderRecord:
    """Inverse of ``provider_json``; older records have the first two keys alone. Raises DecodeError (D8)."""
    if not isinstance(found, Mapping):
        raise DecodeError("D8", "a provider record is an object")
    known = {"provider_id", "last_seen_ms", *_BOUNDS}
    if unknown := sorted(str(key) for key in found if key not in known):
        raise DecodeError("D8", f"a provider record has no {unknown[0][:80]!r}")
    seen = found.get("last_seen_ms")
    if not isinstance(found.get("provider_id"), str) or type(seen) is not int or not -I64_MAX <= seen <= I64_MAX:
        raise DecodeError("D8", "a provider record has a provider_id and a last_seen_ms")
    for key, high in _BOUNDS.items():
        value = found.get(key)
        if value is not None and (type(value) is not int or not 0 <= value <= high):
            raise DecodeError("D8", f"{key} is a number in 0..{high}")
    optional = {key: found.get(key) for key in _BOUNDS}
    return ProviderRecord(provider_id=PeerId(check_peer_id(found["provider_id"])), last_seen_ms=seen, **optional)


@attrs.frozen(slots=True, kw_only=True)
class ProviderSelectionPolicy:
    """How much each component counts; weights are in thousandths of any sum."""

    freshness_ttl_ms: int = 600_000
    """At this age a provider is not fresh at all; 0 or less: age says nothing."""
    freshness: int = 200
    uptime: int = 200
    challenge: int = 200
    capacity: int = 200
    load: int = 100
    latency: int = 100
    max_candidates: int = 8
    """0: all."""

    def __attrs_post_init__(self) -> None:
        for name in ("freshness", "uptime", "challenge", "capacity", "load", "latency", "max_candidates"):
            require(getattr(self, name) >= 0, f"providers.{name} must not be negative")


DEFAULT_POLICY: Final = ProviderSelectionPolicy()


def score(record: ProviderRecord, now_ms: int, policy: ProviderSelectionPolicy = DEFAULT_POLICY) -> float:
    """How good a provider is, 0 to 1: the weighted mean of its components; with no weight at all its freshness."""
    components = {
        "freshness": _freshness(record, now_ms, policy.freshness_ttl_ms),
        "uptime": _ratio(record.uptime_ratio_per_mille),
        "challenge": _ratio(record.challenge_pass_ratio_per_mille),
        "capacity": _capacity(record),
        "load": UNKNOWN if record.load_ratio_per_mille is None else 1 - _ratio(record.load_ratio_per_mille),
        "latency": _latency(record.p50_read_latency_ms),
    }
    weights: dict[str, int] = {name: getattr(policy, name) for name in components}
    total = sum(weights.values())
    if not total:
        return components["freshness"]
    weighted = sum(weights[name] * value for name, value in components.items())
    return weighted / total


def rank_providers(
    records: Iterable[ProviderRecord], now_ms: int, policy: ProviderSelectionPolicy = DEFAULT_POLICY
) -> list[ProviderRecord]:
    """The best first: by score, then the one seen last, then by id; of one provider its best record, then cut."""

    def place(record: ProviderRecord) -> tuple[float, int, str, tuple[int, ...]]:
        # Last what is known at all, so that two records of one provider always come in the same order.
        known = tuple(-1 if (value := getattr(record, name)) is None else value for name in _BOUNDS)
        return -score(record, now_ms, policy), -record.last_seen_ms, record.provider_id, known

    best: dict[PeerId, ProviderRecord] = {}
    for record in sorted(records, key=place):
        best.setdefault(record.provider_id, record)
    ranked = list(best.values())
    return ranked[: policy.max_candidates] if policy.max_candidates else ranked


def _freshness(record: ProviderRecord, now_ms: int, ttl_ms: int) -> float:
    if ttl_ms <= 0:
        return UNKNOWN
    age_ms = max(0, now_ms - record.last_seen_ms)
    return 0.0 if age_ms >= ttl_ms else 1 - age_ms / ttl_ms


def _ratio(per_mille: int | None) -> float:
    return UNKNOWN if per_mille is None else min(per_mille, _PER_MILLE) / _PER_MILLE


def _capacity(record: ProviderRecord) -> float:
    total, available = record.storage_total_bytes, record.storage_available_bytes
    if total is None or available is None:
        return UNKNOWN
    return min(available, total) / total if total else 0.0


def _latency(latency_ms: int | None) -> float:
    return UNKNOWN if latency_ms is None else 1 - min(latency_ms, LATENCY_MS_MAX) / LATENCY_MS_MAX
