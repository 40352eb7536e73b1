"""wire/block.py: the block and what it links to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.testing.examples import example
from agent_world.wire import cbor, limits, record
from agent_world.wire.block import (
    ActionList,
    BlockAnnounce,
    BlockBundle,
    Event,
    GetBlockRequest,
    GetBlocksRequest,
    GetBlocksResponse,
    JournalIndex,
    JournalSegment,
    JournalSegmentRef,
    NamespaceRoot,
    Outcome,
    Receipt,
    ReceiptList,
    StateRoot,
    WorldBlock,
)
from agent_world.wire.cid import Cid


@pytest.mark.parametrize(
    "kind",
    [
        ActionList,
        BlockAnnounce,
        BlockBundle,
        Event,
        GetBlockRequest,
        GetBlocksRequest,
        GetBlocksResponse,
        JournalIndex,
        JournalSegment,
        JournalSegmentRef,
        NamespaceRoot,
        Receipt,
        ReceiptList,
        StateRoot,
        WorldBlock,
    ],
)
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


def test_outcomes() -> None:
    assert [outcome.value for outcome in Outcome] == ["applied", "rejected"]


def test_the_largest_block_is_within_its_limit() -> None:
    assert len(record.to_bytes(example(WorldBlock, "highest"))) < limits.HEADER_BYTES_MAX


def test_content_is_linked_and_the_past_is_not() -> None:
    """What a block reaches is found by its links; a link backwards would keep the whole chain alive (D2)."""
    block = example(WorldBlock, "typical")
    links = cbor.links_of(cbor.decode(record.to_bytes(block), size_max=limits.HEADER_BYTES_MAX))
    assert set(links) == {block.action_root, block.receipts_root, block.journal_ref, block.state_root}


def test_lists_of_a_full_block_are_blobs() -> None:
    actions = ActionList(actions=(example(Cid, "highest"),) * limits.BLOCK_ACTIONS_MAX)
    receipts = ReceiptList(receipts=(example(Receipt, "highest"),) * limits.BLOCK_ACTIONS_MAX)
    assert len(record.to_bytes(actions)) < limits.BLOB_BYTES_MAX
    assert len(record.to_bytes(receipts)) < limits.BLOB_BYTES_MAX


def test_a_full_range_answer_fits_into_a_body() -> None:
    """One block may exceed the byte bound of a range: it is always sent. It must still fit."""
    action = bytes(limits.BLOCK_ACTION_BYTES_MAX // limits.BLOCK_ACTIONS_MAX)
    bundle = BlockBundle(
        block=bytes(limits.HEADER_BYTES_MAX),
        certificate=bytes(limits.CERTIFICATE_BYTES_MAX),
        actions=(action,) * limits.BLOCK_ACTIONS_MAX,
    )
    count = limits.RANGE_BYTES_MAX // limits.BLOCK_ACTION_BYTES_MAX + 1
    assert len(record.to_bytes(GetBlocksResponse(bundles=(bundle,) * count))) < limits.RPC_BODY_BYTES_MAX
