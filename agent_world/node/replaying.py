"""Executes stored heights again, one after the other: what ``world verify``, ``world replay`` and a rollback share.

State nodes come from the execution itself first, and from the home only where the replay began at a stored state.
Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import attrs

from agent_world.consensus.certificate import verify_certificate
from agent_world.consensus.validators import ValidatorSet
from agent_world.errors import BlobHashMismatch, BlobNotFound, ChainError, DecodeError, RemoteError
from agent_world.node.ledger import check_seat
from agent_world.store.chain import ChainStore
from agent_world.store.chain_rows import StoredBlock
from agent_world.wire.cid import ContentHash
from agent_world.wire.genesis import Genesis
from agent_world.wire.head import WorldHead
from agent_world.world.block import SealedBlock, head_of
from agent_world.world.epochs import height_context
from agent_world.world.genesis import genesis_hash, genesis_head, initial_state
from agent_world.world.replay import action_hashes, open_actions, replay_block
from agent_world.world.state import WorldState
from agent_world.world.trie import Blobs, NodeCache, NodeSource


@attrs.frozen(slots=True)
class Difference:
    """A row of the store that is not what the execution gives."""

    what: str
    stored: object
    executed: object


class Replay:
    """A chain at one height, and what executing the next ones gives."""

    def __init__(self, genesis: Genesis, head: WorldHead, made: Blobs, stored: NodeSource | None) -> None:
        """Use ``from_genesis`` or ``after``."""
        self.genesis = genesis
        self.head = head
        """The last height executed; what the next one must follow."""
        self.made = made
        """State nodes that the execution made so far; genesis' own where it began there."""
        self._stored = stored
        self._nodes = NodeCache(self._node)
        self._genesis_hash = genesis_hash(genesis)
        self._validators: ValidatorSet | None = None

    @classmethod
    def from_genesis(cls, genesis: Genesis) -> Self:
        """At height 0; nothing of the state is read from the home."""
        return cls(genesis, genesis_head(genesis), dict(initial_state(genesis)[1]), None)

    @classmethod
    def after(cls, genesis: Genesis, stored: StoredBlock, read: NodeSource) -> Self:
        """At a stored height, whose state ``read`` gives.

        Raises BlobNotFound, BlobHashMismatch, DecodeError or ChainError if that state cannot be opened.
        """
        replay = cls(genesis, head_of(stored.header, stored.block_hash), {}, read)
        clock = replay.state().clock
        if clock.height != stored.height:
            raise ChainError(stored.height, "state_root", f"the stored state is of height {clock.height}")
        return replay

    @property
    def is_from_genesis(self) -> bool:
        """Whether everything was made by the replay itself."""
        return self._stored is None

    def state(self) -> WorldState:
        """The state after ``head``; raises as ``WorldState``."""
        return WorldState(self.head.state_root, self._nodes)

    def execute(self, stored: StoredBlock, read: NodeSource) -> SealedBlock:
        """Check and execute the next height; ``read`` gives its action list and bodies. Moves on if all is right.

        Raises ChainError whose ``what`` is the first thing that differs; NodeMissing, BlobHashMismatch or DecodeError
        for a node of a stored state.
        """
        height = stored.height
        context = height_context(self.state(), self.head.block_hash, self._validators)
        self._validators = context.validators
        world_id = self.genesis.world_id
        try:
            verify_certificate(
                stored.certificate,
                world_id,
                self._genesis_hash,
                context.validators,
                height=height,
                block_hash=stored.block_hash,
            )
        except RemoteError as error:
            raise ChainError(height, "certificate", str(error)) from None
        try:
            hashes = action_hashes(stored.header, read)
            bodies = [read(content) for content in hashes]
        except (BlobNotFound, BlobHashMismatch, DecodeError) as error:
            raise ChainError(height, "actions", str(error)) from None
        actions = open_actions(bodies, height, world_id, self._genesis_hash)
        check_seat(stored.block, list(hashes), context)
        sealed = replay_block(self.head, stored.block, actions, self.state())
        self.made.update(sealed.execution.blobs)
        self.head = sealed.head
        return sealed

    def _node(self, digest: ContentHash) -> bytes:
        found = self.made.get(digest)
        if found is not None:
            return found
        if self._stored is None:
            raise BlobNotFound(f"state node {digest.hex()} is unknown to the replay")
        return self._stored(digest)


def need_block(chain: ChainStore, height: int) -> StoredBlock:
    """The stored block of a height; raises ChainError if it is damaged or not here."""
    stored = chain.block(height)
    if stored is None:
        raise ChainError(height, "block", "the row is missing")
    return stored


def row_differences(chain: ChainStore, sealed: SealedBlock) -> Iterator[Difference]:
    """Rows derived from a height that are not what its execution gives."""
    height, events = sealed.block.height, sealed.execution.events
    expected = (events[0].event_id, events[-1].event_id) if events else None
    found = chain.event_range(height)
    if found != expected:
        yield Difference("event range", found, expected)
    for position, receipt in enumerate(sealed.execution.receipts):
        row = chain.receipt_position(receipt.action_id)
        place = None if row is None else (row.height, row.position)
        if place != (height, position):
            yield Difference(f"receipt row of {receipt.action_id.hex()}", place, (height, position))
