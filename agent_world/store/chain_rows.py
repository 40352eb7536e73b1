"""Rows of the chain's tables as records. Everything is checked again when it is read."""

from __future__ import annotations

from typing import Any, Final

import attrs

from agent_world.crypto.hashing import hash32
from agent_world.errors import ChainError, DecodeError
from agent_world.store.database import Row
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.ids import Hash32
from agent_world.wire.limits import HEADER_BYTES_MAX

BLOCK_COLUMNS: Final = "height, block_hash, block, certificate, certificate_hash"
"""Of the table blocks, as ``stored_block`` takes them."""


@attrs.frozen(slots=True, kw_only=True)
class StoredBlock:
    """A committed block as stored and checked."""

    height: int
    block_hash: Hash32
    block: bytes
    certificate: bytes
    header: WorldBlock
    """``block`` decoded."""


@attrs.frozen(slots=True)
class StoredBoundary:
    """A block after which another set decides, with its certificate and that set, all encoded."""

    height: int
    block: bytes
    certificate: bytes
    validators: bytes


def stored_block(row: Row) -> StoredBlock:
    """A row of BLOCK_COLUMNS, if everything in it fits together; raises ChainError."""
    height, block_hash, block, certificate, certificate_hash = row
    if not isinstance(block, bytes) or hash32(block) != block_hash:
        raise _damaged(height, "block", "the stored bytes do not hash to the block's name")
    if not isinstance(certificate, bytes) or hash32(certificate) != certificate_hash:
        raise _damaged(height, "certificate", "the stored bytes do not hash to what was stored")
    try:
        header = record.from_bytes(WorldBlock, block, size_max=HEADER_BYTES_MAX)
    except DecodeError as error:
        raise _damaged(height, "block", str(error)) from None
    if header.height != height:
        raise _damaged(height, "height", f"the block says {header.height}")
    return StoredBlock(height=height, block_hash=block_hash, block=block, certificate=certificate, header=header)


def stored_boundary(row: Row) -> StoredBoundary:
    """A row (height, block, certificate, validators), if all fits together; raises ChainError."""
    height, block, certificate, validators = row
    try:
        header = record.from_bytes(WorldBlock, block, size_max=HEADER_BYTES_MAX)
    except DecodeError as error:
        raise _damaged(height, "boundary", str(error)) from None
    if header.height != height or hash32(validators) != header.next_validators_hash:
        raise _damaged(height, "boundary", "block and validator set do not belong together")
    return StoredBoundary(height, block, certificate, validators)


def _damaged(height: Any, what: str, detail: str) -> ChainError:
    """``height`` as read; a damaged page can make it of any type."""
    place = height if isinstance(height, int) else 0
    return ChainError(place, what, f"{detail}; restore the home from a copy, or make a new one and let it sync")
