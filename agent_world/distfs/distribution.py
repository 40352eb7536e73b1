"""Whether a set of contents is spread over enough providers to be relied upon (3.9). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from agent_world.config import require
from agent_world.errors import ErrorCode, Refused
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId


@attrs.frozen(slots=True, kw_only=True)
class DistributionPolicy:
    """Source of the defaults: the reference system."""

    min_replicas_per_blob: int = 2
    forbid_single_provider_full_coverage: bool = True
    """Of more than one content no provider may have all: who is asked for everything learns everything."""

    def __attrs_post_init__(self) -> None:
        require(self.min_replicas_per_blob > 0, "distribution.min_replicas_per_blob must be above 0")


@attrs.frozen(slots=True)
class Distribution:
    """What an audit found."""

    required_blob_count: int
    distinct_provider_count: int


def audit_distribution(
    wanted: Iterable[ContentHash], providers: Mapping[ContentHash, Iterable[PeerId]], policy: DistributionPolicy
) -> Distribution:
    """Raises Refused (ERR_NOT_AVAILABLE) naming the first content that is not spread as the policy asks."""
    hashes = sorted(set(wanted))
    if not hashes:
        raise Refused(ErrorCode.BAD_REQUEST, "no content is named")
    named = {content: frozenset(providers.get(content, ())) for content in hashes}
    for content, found in named.items():
        if len(found) < policy.min_replicas_per_blob:
            raise Refused(
                ErrorCode.NOT_AVAILABLE,
                f"{content.hex()} has {len(found)} providers, {policy.min_replicas_per_blob} are required",
            )
    everywhere = frozenset.intersection(*named.values())
    if policy.forbid_single_provider_full_coverage and len(hashes) > 1 and everywhere:
        raise Refused(ErrorCode.NOT_AVAILABLE, f"{min(everywhere)} provides all {len(hashes)} contents alone")
    return Distribution(len(hashes), len(frozenset.union(*named.values())))
