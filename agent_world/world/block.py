"""A block around an execution: its links and hashes, made by a proposer and checked by everybody else (D5)."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from agent_world.crypto.hashing import cid_of, content_hash, hash32
from agent_world.errors import ChainError
from agent_world.wire import record
from agent_world.wire.block import ReceiptList, WorldBlock, action_list_bytes
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U32, U64, Hash32, ValidatorId
from agent_world.world.admission import SignedAction
from agent_world.world.journal import event_root, segment_journal
from agent_world.world.kernel import BlockContext, Execution, execute_block
from agent_world.world.state import WorldState
from agent_world.world.trie import Blobs


@attrs.frozen(slots=True, kw_only=True)
class Seat:
    """Where consensus puts a new block, and who makes it; see the fields of WorldBlock."""

    round: U32
    epoch: U64
    proposer_id: ValidatorId


@attrs.frozen(slots=True, kw_only=True)
class BlockContents:
    """What an executed block links to."""

    action_root: Cid
    event_root: Hash32
    receipts_root: Cid
    journal_ref: Cid
    state_root: Cid
    validators_hash: Hash32
    next_validators_hash: Hash32
    lease_term: U64
    blobs: Blobs
    """ActionList, action bodies, ReceiptList, JournalIndex and segments, new state nodes; not the block itself."""


@attrs.frozen(slots=True, kw_only=True)
class SealedBlock:
    """A block with its bytes and everything it needs in the store."""

    block: WorldBlock
    data: bytes
    """The encoded block."""
    block_hash: Hash32
    """BLAKE3 of ``data``."""
    execution: Execution
    blobs: Blobs
    """As in BlockContents."""

    @property
    def head(self) -> WorldHead:
        """The world's head once this block is committed; the parent of the next."""
        return head_of(self.block, self.block_hash)


def block_contents(actions: Sequence[SignedAction], execution: Execution) -> BlockContents:
    """Links and blobs of an execution."""
    journal_ref, blobs = segment_journal(execution.events)
    action_list = action_list_bytes(tuple(action.action_id for action in actions))
    receipt_list = record.to_bytes(ReceiptList(receipts=execution.receipts))
    for data in (action_list, receipt_list):
        blobs[content_hash(data)] = data
    blobs.update((ContentHash(action.action_id), action.data) for action in actions)
    blobs.update(execution.blobs)
    return BlockContents(
        action_root=cid_of(action_list),
        event_root=event_root(execution.events),
        receipts_root=cid_of(receipt_list),
        journal_ref=journal_ref,
        state_root=execution.state_root,
        validators_hash=execution.validators_hash,
        next_validators_hash=execution.next_validators_hash,
        lease_term=execution.lease_term,
        blobs=blobs,
    )


def assemble_block(parent: WorldHead, seat: Seat, actions: Sequence[SignedAction], execution: Execution) -> SealedBlock:
    """The block that an execution on ``parent``'s state makes; height and time come from the execution's context."""
    contents = block_contents(actions, execution)
    context = execution.context
    block = WorldBlock(
        world_id=context.world_id,
        height=context.height,
        slot=context.slot,
        round=seat.round,
        epoch=seat.epoch,
        prev_block_hash=parent.block_hash,
        proposer_id=seat.proposer_id,
        timestamp_ms=context.timestamp_ms,
        validators_hash=contents.validators_hash,
        next_validators_hash=contents.next_validators_hash,
        action_root=contents.action_root,
        event_root=contents.event_root,
        receipts_root=contents.receipts_root,
        journal_ref=contents.journal_ref,
        state_root=contents.state_root,
        lease_term=contents.lease_term,
    )
    return _sealed(block, execution, contents)


def verify_execution(block: WorldBlock, actions: Sequence[SignedAction], parent_state: WorldState) -> SealedBlock:
    """Execute the block on its parent's state and compare everything it claims.

    Raises ChainError whose ``what`` is the first field that differs, and whatever ``execute_block`` raises.
    """
    # The cheap comparison first: executing other actions than the block's would only give a less clear error.
    action_list = action_list_bytes(tuple(action.action_id for action in actions))
    _require_equal(block, "action_root", cid_of(action_list))
    context = BlockContext(
        world_id=block.world_id, height=block.height, slot=block.slot, timestamp_ms=block.timestamp_ms
    )
    execution = execute_block(parent_state, context, actions)
    contents = block_contents(actions, execution)
    for name in (
        "validators_hash",
        "receipts_root",
        "event_root",
        "journal_ref",
        "state_root",
        "next_validators_hash",
        "lease_term",
    ):
        _require_equal(block, name, getattr(contents, name))
    return _sealed(block, execution, contents)


def head_of(block: WorldBlock, block_hash: Hash32) -> WorldHead:
    """The head that a committed block is."""
    return WorldHead(
        world_id=block.world_id,
        height=block.height,
        block_hash=block_hash,
        state_root=block.state_root,
        timestamp_ms=block.timestamp_ms,
    )


def _sealed(block: WorldBlock, execution: Execution, contents: BlockContents) -> SealedBlock:
    data = record.to_bytes(block)
    return SealedBlock(block=block, data=data, block_hash=hash32(data), execution=execution, blobs=contents.blobs)


def _require_equal(block: WorldBlock, name: str, actual: Cid | bytes | int) -> None:
    claimed = getattr(block, name)
    if claimed != actual:
        raise ChainError(block.height, name, f"the block says {_text(claimed)}, execution gives {_text(actual)}")


def _text(value: Cid | bytes | int) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
