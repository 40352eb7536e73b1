"""Counts of challenges a node and a reason, and what a passed one is worth to whoever settles rewards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from agent_world.distfs.challenge import challenge_id
from agent_world.wire.challenge import ChallengeQuestion, ChallengeReceipt, FailureReason
from agent_world.wire.ids import Hash32, PeerId

PROOF_KIND = "chunk_hash:v2"
"""Of every proof here: a keyed hash of an unpredictable range, with the path of links to it."""


@attrs.frozen(slots=True, kw_only=True)
class StorageChallengeProofSemantics:
    """A check in short; fields of the reference system"""

    node_id: PeerId
    sample_source: str
    sample_reference: str
    """``distfs://<node>/challenge/<id>/blob/<hash>?offset=<octets>&size=<octets>``."""
    failure_reason: FailureReason | None
    proof_kind_hint: str
    vrf_seed_hint: Hash32
    """Hash of the block from which the range was drawn."""
    post_commitment_hint: Hash32 | None


def proof_semantics(question: ChallengeQuestion, receipt: ChallengeReceipt) -> StorageChallengeProofSemantics:
    """The projection of one check."""
    reference = (
        f"distfs://{question.target}/challenge/{challenge_id(question).hex()}/blob/{question.content.digest.hex()}"
        f"?offset={receipt.sample_offset}&size={receipt.sample_size_bytes}"
    )
    return StorageChallengeProofSemantics(
        node_id=question.target,
        sample_source=receipt.sample_source.value,
        sample_reference=reference,
        failure_reason=receipt.failure_reason,
        proof_kind_hint=PROOF_KIND,
        vrf_seed_hint=question.seed_hash,
        post_commitment_hint=receipt.commitment,
    )


@attrs.frozen(slots=True, kw_only=True)
class NodeStorageChallengeStats:
    """Checks of one node."""

    node_id: PeerId
    total_checks: int
    passed_checks: int
    failed_checks: int
    failures_by_reason: Mapping[FailureReason, int]


def statistics(checks: Iterable[tuple[PeerId, FailureReason | None]]) -> list[NodeStorageChallengeStats]:
    """Counts a node, ascending by id; a check without a reason has passed."""
    totals: dict[PeerId, int] = {}
    failures: dict[PeerId, dict[FailureReason, int]] = {}
    for node, reason in checks:
        totals[node] = totals.get(node, 0) + 1
        counts = failures.setdefault(node, {})
        if reason is not None:
            counts[reason] = counts.get(reason, 0) + 1
    return [
        NodeStorageChallengeStats(
            node_id=node,
            total_checks=totals[node],
            passed_checks=totals[node] - sum(failures[node].values()),
            failed_checks=sum(failures[node].values()),
            failures_by_reason=failures[node],
        )
        for node in sorted(totals)
    ]
