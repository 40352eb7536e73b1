from __future__ import annotations

import pytest

from agent_world.errors import DecodeError
from agent_world.testing.examples import example
from agent_world.wire import record
from agent_world.wire.challenge import ChallengeReceipt, FailureReason, StorageChallenge


def test_labels_are_in_the_order_in_which_ties_are_decided() -> None:
    labels = [reason.value for reason in FailureReason]
    assert labels == sorted(labels)
    assert len(labels) == 6


def test_no_field_of_a_challenge_tells_the_answer() -> None:
    """K-7.1: neither digest, offset nor size of the range travels to the target."""
    names = set(record.unstructure(example(StorageChallenge, "typical"))["question"])
    assert names == {
        "v", "world_id", "challenger", "target", "content", "max_sample_bytes", "seed_height", "seed_hash", "nonce",
    }  # fmt: skip


def test_a_reason_that_does_not_exist_is_refused() -> None:
    good = record.to_bytes(example(ChallengeReceipt, "typical"))
    label = FailureReason.HASH_MISMATCH.value.encode()
    assert label in good
    with pytest.raises(DecodeError):
        record.from_bytes(ChallengeReceipt, good.replace(label, b"HASH_MISSHAPE"), size_max=4096)
