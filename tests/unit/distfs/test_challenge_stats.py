"""T-7.3."""

from __future__ import annotations

import attrs

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.challenge import answer, challenge_id, put
from agent_world.distfs.challenge_stats import PROOF_KIND, NodeStorageChallengeStats, proof_semantics, statistics
from agent_world.testing.vectors_challenge import BLOB, getter, question_of
from agent_world.wire.challenge import FailureReason
from agent_world.wire.cid import Codec
from agent_world.wire.ids import PeerId


def test_the_projection_has_the_fields_of_the_specification() -> None:
    question = question_of(cid_of(BLOB, Codec.RAW))
    receipt, _ = answer(put(question, 0, 0, 1), getter({question.content.digest: BLOB}), 0)
    shown = proof_semantics(question, receipt)
    assert (shown.node_id, shown.sample_source, shown.failure_reason) == (question.target, "local_store_index", None)
    assert (shown.proof_kind_hint, shown.vrf_seed_hint) == (PROOF_KIND, question.seed_hash)
    assert shown.post_commitment_hint == receipt.commitment
    assert shown.sample_reference == (
        f"distfs://{question.target}/challenge/{challenge_id(question).hex()}/blob/{question.content.digest.hex()}"
        f"?offset={receipt.sample_offset}&size=100"
    )
    failed = attrs.evolve(receipt, failure_reason=FailureReason.UNKNOWN)
    assert proof_semantics(question, failed).failure_reason is FailureReason.UNKNOWN


def test_counts_a_node_and_a_reason() -> None:
    a, b = PeerId("a"), PeerId("b")
    found = statistics([(b, FailureReason.TIMEOUT), (a, None), (b, None), (a, FailureReason.HASH_MISMATCH)])
    assert found == [
        NodeStorageChallengeStats(
            node_id=node, total_checks=2, passed_checks=1, failed_checks=1, failures_by_reason={reason: 1}
        )
        for node, reason in ((a, FailureReason.HASH_MISMATCH), (b, FailureReason.TIMEOUT))
    ]
    assert statistics([]) == []
