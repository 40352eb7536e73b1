"""The head that a light verifier trusts: the genesis, or a block named by its hash, fetched from whoever has it."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.consensus.light import TrustedHead, height_of, open_block, start_of, trust_block
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.errors import AgentWorldError, RemoteError, UsageError
from agent_world.node.asked_peers import AskedPeers
from agent_world.node.light_client import Fault, PassedOver, blame, reason_of
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.genesis import Genesis
from agent_world.wire.ids import Hash32, PeerId
from agent_world.wire.membership import EpochBoundary
from agent_world.world.genesis import genesis_hash

FIRST_WINDOW: Final = 64
"""Heights below the trusted block in which its set's boundary is looked for first; every further window is 4 times
as large, so that a set that has long decided is found in a few questions."""


@attrs.frozen(slots=True, kw_only=True)
class Start:
    """What is trusted."""

    head: TrustedHead
    data: bytes | None
    """The encoded block; None for the genesis."""
    liars: dict[PeerId, PassedOver] = attrs.Factory(dict)
    """Who was asked for the block and showed another; they are not asked again."""

    @property
    def block(self) -> WorldBlock | None:
        """The trusted block; None for the genesis."""
        return None if self.data is None else open_block(self.data)


def start_at_genesis(genesis: Genesis) -> Start:
    """The genesis, which needs nobody."""
    validators = ValidatorSet(genesis.validators)
    return Start(head=start_of(genesis.world_id, genesis_hash(genesis), validators), data=None)


async def find_start(peers: AskedPeers, genesis: Genesis, height: int, block_hash: Hash32) -> Start:
    """The block of this height and hash, and the set that decides after it, from the first peer that has both.

    Raises as ``LightClient.round`` if nobody has them.
    """
    if height == 0:
        if block_hash != genesis_hash(genesis):
            raise UsageError(f"height 0 is the genesis, whose hash is {genesis_hash(genesis).hex()}")
        return start_at_genesis(genesis)
    passed_over: dict[PeerId, PassedOver] = {}
    for peer in peers.known:
        try:
            await peers.greet(peer)
            data = (await peers.block(peer, height)).block
            # Before the set is looked for: a liar shall not choose what is looked for.
            if hash32(data) != block_hash:
                found = hash32(data).hex()
                raise RemoteError(
                    "G3", f"shows block {found} at height {height}: it lies, or the trusted hash is of another chain"
                )
            validators = await _set_after(peers, peer, genesis, open_block(data))
            boundary = EpochBoundary(block=data, certificate=b"", validators=validators)
            head = trust_block(genesis.world_id, genesis_hash(genesis), boundary, block_hash)
        except AgentWorldError as error:
            passed_over[peer] = why = reason_of(error)
            if why.fault is Fault.LIED:
                peers.forget(peer)
            continue
        if head.height != height:
            raise UsageError(f"the block {block_hash.hex()} is of height {head.height}, not {height}")
        liars = {peer: why for peer, why in passed_over.items() if why.fault is Fault.LIED}
        return Start(head=head, data=data, liars=liars)
    raise blame(passed_over)


async def _set_after(peers: AskedPeers, peer: PeerId, genesis: Genesis, block: WorldBlock) -> bytes:
    """The record whose hash the block names; its hash is its proof, wherever it is found."""
    own = record.to_bytes(genesis.validators)
    if hash32(own) == block.next_validators_hash:
        return own
    high, size = int(block.height), FIRST_WINDOW
    while high > 0:
        low = max(1, high - size + 1)
        found = await _set_between(peers, peer, block.next_validators_hash, low, high)
        if found is not None:
            return found
        high, size = low - 1, size * 4
    raise RemoteError("G5", f"does not show the set that decides after height {block.height}")


async def _set_between(peers: AskedPeers, peer: PeerId, wanted: Hash32, low: int, high: int) -> bytes | None:
    while low <= high:
        boundaries = await peers.boundaries(peer, low)
        for boundary in boundaries:
            if hash32(boundary.validators) == wanted:
                return boundary.validators
            height = height_of(boundary)
            if height < low:
                raise RemoteError("G3", f"shows a boundary at height {height} when asked from {low} on")
            low = height + 1
        if not boundaries:
            return None
    return None
