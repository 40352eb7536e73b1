"""T-3.9: contents that too few provide, or that one provides alone, are not relied upon."""

from __future__ import annotations

import pytest

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.distribution import Distribution, DistributionPolicy, audit_distribution
from agent_world.errors import ErrorCode, Refused, UsageError
from agent_world.wire.ids import PeerId

A, B, C = (PeerId(name) for name in "abc")
ONE, TWO, THREE = (content_hash(name) for name in (b"1", b"2", b"3"))
POLICY = DistributionPolicy()


def test_contents_over_pairs_of_providers_are_accepted() -> None:
    found = {ONE: [A, B], TWO: [B, C, C], THREE: [A, C]}
    assert audit_distribution([ONE, TWO, THREE, ONE], found, POLICY) == Distribution(3, 3)


@pytest.mark.parametrize(("found", "said"), [
    ({ONE: [A, A], TWO: [A, B]}, f"{ONE.hex()} has 1 providers, 2 are required"),
    ({TWO: [A, B]}, f"{ONE.hex()} has 0 providers"),
    ({ONE: [A, B], TWO: [A, C]}, "a provides all 2 contents"),
])  # fmt: skip
def test_a_shortage_is_named(found: dict[object, list[PeerId]], said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        audit_distribution([ONE, TWO], found, POLICY)  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.NOT_AVAILABLE


def test_one_content_may_be_with_one_provider_if_the_policy_says_so() -> None:
    lax = DistributionPolicy(min_replicas_per_blob=1, forbid_single_provider_full_coverage=False)
    assert audit_distribution([ONE, TWO], {ONE: [A], TWO: [A]}, lax) == Distribution(2, 1)
    assert audit_distribution([ONE], {ONE: [A, B]}, POLICY) == Distribution(1, 2)
    with pytest.raises(Refused):
        audit_distribution([], {}, POLICY)
    with pytest.raises(UsageError):
        DistributionPolicy(min_replicas_per_blob=0)
