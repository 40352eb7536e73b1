"""Following a chain by its certificates and validator sets alone, without executing it (D4).

Start from a head that is trusted: the genesis, or a height with its block hash that somebody vouched for. From there a
certificate of the set that the trusted block names proves any head until another set takes over; a boundary proves
that set. Faulty stake of every set on the way must be below a third.
"""

from __future__ import annotations

import attrs

from agent_world.consensus.certificate import verify_certificate
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.errors import DecodeError, Ignored, RemoteError, UsageError
from agent_world.wire import record
from agent_world.wire.block import WorldBlock, world_block
from agent_world.wire.consensus import ValidatorSetRecord
from agent_world.wire.ids import Hash32, WorldId
from agent_world.wire.limits import RPC_INLINE_BYTES_MAX
from agent_world.wire.membership import EpochBoundary


@attrs.frozen(slots=True, kw_only=True)
class TrustedHead:
    """A committed block and the set that decides after it."""

    world_id: WorldId
    genesis_hash: Hash32
    height: int
    """0 for the genesis, whose block hash is the genesis hash."""
    block_hash: Hash32
    slot: int
    validators: ValidatorSet
    """Whose certificates prove the heights above, up to and with the next boundary."""


class OtherSet(Ignored):
    """The block is decided by a set that is not proved yet: its boundaries are to be asked for."""


def trust_block(world_id: WorldId, genesis_hash: Hash32, boundary: EpochBoundary, block_hash: Hash32) -> TrustedHead:
    """A head from a block that somebody vouched for by its hash, with the set that it names as the next.

    Its certificate is not looked at: the hash is the trust. Raises RemoteError (G2, G3, G5).
    """
    block = open_block(boundary.block)
    if hash32(boundary.block) != block_hash or block.world_id != world_id:
        raise RemoteError("G3", "the block is not the trusted one")
    return _head_of(block, block_hash, genesis_hash, _named_set(block, boundary.validators))


def check_head(trusted: TrustedHead, block: bytes, certificate: bytes) -> WorldBlock:
    """The block if it is certified above ``trusted`` by the set that decides there.

    Raises OtherSet (G4) if another set has decided it, RemoteError for what is wrong.
    """
    header = open_block(block)
    # [REJECT] G3: of this world, and above.
    if header.world_id != trusted.world_id or header.height <= trusted.height or header.slot <= trusted.slot:
        raise RemoteError("G3", f"height {header.height} of {header.world_id} is not above {trusted.height}")
    # [IGNORE] G4: decided by the set that is known to decide there; a later one is proved by its boundaries.
    if header.validators_hash != trusted.validators.hash:
        raise OtherSet("G4", f"height {header.height} is decided by a set that is not proved yet")
    # [REJECT] G6: the next height names its parent.
    if header.height == trusted.height + 1 and header.prev_block_hash != trusted.block_hash:
        raise RemoteError("G6", f"height {header.height} does not follow the trusted block")
    verify_certificate(
        certificate,
        trusted.world_id,
        trusted.genesis_hash,
        trusted.validators,
        height=header.height,
        block_hash=hash32(block),
    )
    return header


def follow(trusted: TrustedHead, block: bytes, certificate: bytes) -> TrustedHead:
    """The head that this block is, if the same set decides after it; raises OtherSet (G5) at a boundary."""
    header = check_head(trusted, block, certificate)
    if header.next_validators_hash != trusted.validators.hash:
        raise OtherSet("G5", f"another set takes over after height {header.height}")
    return _head_of(header, hash32(block), trusted.genesis_hash, trusted.validators)


def cross(trusted: TrustedHead, boundary: EpochBoundary) -> TrustedHead:
    """The head that a boundary's block is, with the set that takes over; raises RemoteError, OtherSet as above."""
    header = check_head(trusted, boundary.block, boundary.certificate)
    # [REJECT] G7: another set takes over. Ordinary blocks would fill up what is kept of boundaries.
    if header.next_validators_hash == trusted.validators.hash:
        raise RemoteError("G7", f"no other set takes over after height {header.height}")
    validators = _named_set(header, boundary.validators)
    return _head_of(header, hash32(boundary.block), trusted.genesis_hash, validators)


def height_of(boundary: EpochBoundary) -> int:
    """Height of a boundary's block, not checked any further; raises DecodeError (G2)."""
    return open_block(boundary.block).height


def start_of(world_id: WorldId, genesis_hash: Hash32, validators: ValidatorSet) -> TrustedHead:
    """The genesis as a head: its hash is the hash of block 0, its set decides height 1."""
    return TrustedHead(
        world_id=world_id, genesis_hash=genesis_hash, height=0, block_hash=genesis_hash, slot=0, validators=validators
    )


def _head_of(block: WorldBlock, block_hash: Hash32, genesis_hash: Hash32, validators: ValidatorSet) -> TrustedHead:
    return TrustedHead(
        world_id=block.world_id,
        genesis_hash=genesis_hash,
        height=block.height,
        block_hash=block_hash,
        slot=block.slot,
        validators=validators,
    )


def open_block(data: bytes) -> WorldBlock:
    """A block, not checked any further; raises DecodeError (G2)."""
    # [REJECT] G2: strict records.
    try:
        return world_block(data)
    except DecodeError as error:
        raise DecodeError("G2", f"{error.rule}: {error.detail}") from None


def _named_set(block: WorldBlock, data: bytes) -> ValidatorSet:
    try:
        found = record.from_bytes(ValidatorSetRecord, data, size_max=RPC_INLINE_BYTES_MAX)
    except DecodeError as error:
        raise DecodeError("G2", f"{error.rule}: {error.detail}") from None
    # [REJECT] G5: the set that the block names, fit for the round engine.
    try:
        validators = ValidatorSet(found)
        validators.require_byzantine_safe()
    except UsageError as error:
        raise RemoteError("G5", str(error)) from None
    if validators.hash != block.next_validators_hash:
        raise RemoteError("G5", f"another set than the one that height {block.height} names")
    return validators
