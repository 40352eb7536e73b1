"""Check a block against its parent by executing it: catch-up, observers, gossip and ``world verify`` all pass here.

The certificate, slot, round, epoch and proposer are consensus' to check; the rest of the header is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent_world.crypto.hashing import hash32
from agent_world.errors import ChainError, LocalError, Refused
from agent_world.wire import record
from agent_world.wire.block import ActionList, WorldBlock, world_block
from agent_world.wire.cid import ContentHash
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import Hash32, WorldId
from agent_world.wire.limits import BLOB_BYTES_MAX, BLOCK_ACTIONS_MAX
from agent_world.world.admission import SignedAction, open_action
from agent_world.world.block import SealedBlock, verify_execution
from agent_world.world.state import WorldState
from agent_world.world.trie import NodeSource


def open_block(data: bytes) -> WorldBlock:
    """The block of these bytes; raises DecodeError."""
    return world_block(data)


def action_hashes(block: WorldBlock, source: NodeSource) -> tuple[ContentHash, ...]:
    """Which action bodies a block needs, in order, read through its ActionList.

    Raises BlobNotFound, DecodeError, or ChainError when it lists more than a block may hold.
    """
    listed = record.from_bytes(ActionList, source(block.action_root.digest), size_max=BLOB_BYTES_MAX).actions
    if len(listed) > BLOCK_ACTIONS_MAX:
        raise ChainError(block.height, "action_root", f"{len(listed)} actions; a block has at most {BLOCK_ACTIONS_MAX}")
    return tuple(link.digest for link in listed)


def open_actions(
    bodies: Sequence[bytes], height: int, world_id: WorldId, genesis_hash: Hash32
) -> tuple[SignedAction, ...]:
    """Check A1-A6 for every action of a block; raises ChainError naming the first that fails."""
    if len(bodies) > BLOCK_ACTIONS_MAX:
        raise ChainError(height, "actions", f"{len(bodies)} actions; a block has at most {BLOCK_ACTIONS_MAX}")
    opened = []
    for body in bodies:
        try:
            opened.append(open_action(body, world_id, genesis_hash))
        except Refused as error:
            raise ChainError(height, "actions", f"{hash32(body).hex()}: {error.message}") from None
    return tuple(opened)


def check_header(parent: WorldHead, block: WorldBlock) -> None:
    """Raise ChainError unless the block is for the parent's world and follows it in height, hash and time."""
    height = block.height
    if block.world_id != parent.world_id:
        raise ChainError(height, "world_id", f"the block is for {block.world_id}, not {parent.world_id}")
    if height != parent.height + 1:
        raise ChainError(height, "height", f"the parent is at {parent.height}")
    if block.prev_block_hash != parent.block_hash:
        raise ChainError(
            height, "prev_block_hash", f"{block.prev_block_hash.hex()}; the parent is {parent.block_hash.hex()}"
        )
    if block.timestamp_ms <= parent.timestamp_ms:
        raise ChainError(
            height, "timestamp_ms", f"{block.timestamp_ms} is not after the parent's {parent.timestamp_ms}"
        )


def replay_block(parent: WorldHead, data: bytes, actions: Sequence[SignedAction], state: WorldState) -> SealedBlock:
    """Decode, check and execute a block; what it returns is all that has to be stored with it.

    ``actions`` are the block's, opened by ``open_actions`` or at admission; ``state`` is the parent's. Raises
    DecodeError or ChainError for a wrong block, NodeMissing when a node of the parent's state is not stored here,
    LocalError for another state.
    """
    if state.root != parent.state_root:
        raise LocalError(f"the state of {state.root} was given for a block on {parent.state_root}")
    block = open_block(data)
    check_header(parent, block)
    return verify_execution(block, actions, state)
