"""The committed chain and state of one node, and the only way they move: verify, execute, compare, store (D5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from agent_world.consensus.certificate import verify_certificate
from agent_world.consensus.context import HeightContext
from agent_world.consensus.light import TrustedHead
from agent_world.consensus.messages import check_proposal
from agent_world.consensus.terms import MembershipTerm, genesis_term
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.errors import ChainError, RemoteError
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore, CommittedHeight
from agent_world.store.chain_rows import StoredBlock
from agent_world.sync.light_chain import LightChain
from agent_world.wire import record
from agent_world.wire.blob import BlobRef
from agent_world.wire.block import BlockBundle, JournalIndex, JournalSegmentRef, Receipt, ReceiptList, WorldBlock
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.consensus import Proposal, ValidatorSetRecord
from agent_world.wire.genesis import Genesis
from agent_world.wire.head import CertifiedHead
from agent_world.wire.ids import U32, U64, ActorId, Hash32, TimeMs, ValidatorId
from agent_world.wire.limits import BLOB_BYTES_MAX, BOUNDARIES_MAX, RPC_INLINE_BYTES_MAX
from agent_world.wire.membership import EpochBoundary
from agent_world.world import queries
from agent_world.world.admission import SignedAction
from agent_world.world.block import SealedBlock, Seat, assemble_block, head_of
from agent_world.world.epochs import coming_validators, height_context
from agent_world.world.events import OBJECT_CREATED, ObjectCreated
from agent_world.world.genesis import genesis_hash, genesis_head, initial_state
from agent_world.world.journal import assemble_journal
from agent_world.world.kernel import BlockContext, execute_block
from agent_world.world.replay import action_hashes, open_actions, open_block, replay_block
from agent_world.world.state import WorldState
from agent_world.world.trie import NodeCache

EXECUTED_MAX: Final = 8
"""Executed but undecided blocks kept for their commit; more than one a round is rare."""


class Ledger:
    """Satisfies ``handlers.views.ChainView``. One writer: the node's own tasks."""

    def __init__(self, genesis: Genesis, chain: ChainStore, blobs: LocalCasStore) -> None:
        """Open at the committed height; stores the genesis state on first use. Raises DataError if damaged."""
        self.genesis: Final = genesis
        self.world_id = genesis.world_id
        self.genesis_hash = genesis_hash(genesis)
        self._validators: ValidatorSet | None = None
        self._chain = chain
        self._blobs = blobs
        self._nodes = NodeCache(blobs.get)
        self._executed: dict[Hash32, SealedBlock] = {}
        self._moved = trio.Event()
        self.last_actions: tuple[SignedAction, ...] = ()
        """Actions of the height committed last by this object."""
        stored = chain.head()
        if stored is None:
            blobs.put_many(initial_state(genesis)[1].values(), kept=True)
        self._stored = stored
        self.head = genesis_head(genesis) if stored is None else head_of(stored.header, stored.block_hash)
        self.state = WorldState(self.head.state_root, self._nodes)
        self._terms: list[MembershipTerm] = []
        """One validator set after the other, by version, as far as they were asked for."""
        self.light = LightChain()
        """What is proved above the own height."""
        self._context: HeightContext | None = None
        """Of the next height, once asked for: every message of that height is judged by it."""
        self._check_executed()

    def _check_executed(self) -> None:
        clock = self.state.clock
        if clock.height != self.head.height:
            raise ChainError(self.head.height, "state_root", f"the stored state is of height {clock.height}")

    @property
    def height(self) -> int:
        """Committed height; the execution height is always the same (D5)."""
        return self.head.height

    @property
    def base_height(self) -> int:
        """The first height held; 0 before the first block."""
        return self._chain.base_height

    @property
    def timestamp_ms(self) -> int:
        """Time of the last committed block."""
        return self.head.timestamp_ms

    @property
    def header(self) -> WorldBlock | None:
        """The last committed block; None at height 0."""
        return None if self._stored is None else self._stored.header

    def term(self, version: int | None = None) -> MembershipTerm | None:
        """The validator set of a version, the newest for None; None for a version that is not reached."""
        if not self._terms:
            self._terms.append(genesis_term(ValidatorSet(self.genesis.validators)))
        while found := self._chain.boundaries(self._terms[-1].from_height, BOUNDARIES_MAX):
            for boundary in found:
                named = record.from_bytes(ValidatorSetRecord, boundary.validators, size_max=RPC_INLINE_BYTES_MAX)
                self._terms.append(self._terms[-1].successor(U64(boundary.height + 1), ValidatorSet(named)))
        if version is None:
            return self._terms[-1]
        return self._terms[version] if 0 <= version < len(self._terms) else None

    def context(self) -> HeightContext:
        """What the next height starts from."""
        if self._context is None:
            self._context = height_context(self.state, self.head.block_hash, self._validators)
            self._validators = self._context.validators
        return self._context

    @property
    def validators(self) -> ValidatorSet:
        """The set that decides the next height."""
        return self.context().validators

    def build(self, own: ValidatorId, round: int, wall_ms: TimeMs, actions: Sequence[SignedAction]) -> bytes:
        """Execute ``actions`` on the head and seal the block this node proposes; returns its bytes."""
        context = self.context()
        time_ms = TimeMs(max(self.head.timestamp_ms + 1, wall_ms))
        slot = U64(context.slot(round))
        execution = execute_block(
            self.state,
            BlockContext(world_id=self.world_id, height=U64(context.height), slot=slot, timestamp_ms=time_ms),
            actions,
        )
        seat = Seat(round=U32(round), epoch=U64(context.epoch), proposer_id=own)
        sealed = assemble_block(self.head, seat, actions, execution)
        self._keep(sealed)
        return sealed.data

    def verify(self, block: bytes, actions: Sequence[SignedAction]) -> WorldBlock:
        """Execute a proposed block on the head; raises ChainError or DataError for a wrong one."""
        known = self._executed.get(hash32(block))
        if known is not None:
            return known.block
        sealed = replay_block(self.head, block, actions, self.state)
        self._keep(sealed)
        return sealed.block

    def _keep(self, sealed: SealedBlock) -> None:
        self._executed[sealed.block_hash] = sealed
        while len(self._executed) > EXECUTED_MAX:
            self._executed.pop(next(iter(self._executed)))

    def commit(self, block: bytes, certificate: bytes, actions: Sequence[SignedAction]) -> None:
        """Store the next height in one transaction and move the head; the certificate has been verified.

        Nothing happens if the block is the head already: voting and catch-up may both have got it.
        """
        if hash32(block) == self.head.block_hash:
            return
        sealed = self._executed.get(hash32(block)) or replay_block(self.head, block, actions, self.state)
        self._chain.commit_height(committed_height(sealed, certificate, self.state))
        self._stored = StoredBlock(
            height=sealed.block.height,
            block_hash=sealed.block_hash,
            block=block,
            certificate=certificate,
            header=sealed.block,
        )
        self.head = sealed.head
        self._context = None
        self.state = sealed.execution.state
        self._executed.clear()
        self.last_actions = tuple(actions)
        self._moved.set()
        self._moved = trio.Event()

    def apply_bundle(self, height: int, bundle: BlockBundle) -> None:
        """Catch-up: the next height from somebody else. Raises RemoteError or ChainError; then nothing has changed."""
        verify_certificate(
            bundle.certificate,
            self.world_id,
            self.genesis_hash,
            self.validators,
            height=height,
            block_hash=hash32(bundle.block),
        )
        actions = open_actions(bundle.actions, height, self.world_id, self.genesis_hash)
        check_seat(bundle.block, [action.action_id for action in actions], self.context())
        self.commit(bundle.block, bundle.certificate, actions)

    def trusted(self) -> TrustedHead:
        """The own head as what a light verifier starts from."""
        context = self.context()
        return TrustedHead(
            world_id=self.world_id,
            genesis_hash=self.genesis_hash,
            height=self.height,
            block_hash=self.head.block_hash,
            slot=context.parent_slot,
            validators=context.validators,
        )

    def check_head(self, block: bytes, certificate: bytes, height: int) -> WorldBlock:
        """The block if it is certified above the own height; raises RemoteError, or OtherSet (see ``LightChain``)."""
        return self.light.check_head(self.trusted(), block, certificate, height)

    def boundaries(self, from_height: int, count_max: int) -> tuple[EpochBoundary, ...]:
        """Where other sets took over, at this height or above, ascending."""
        return tuple(
            EpochBoundary(block=found.block, certificate=found.certificate, validators=found.validators)
            for found in self._chain.boundaries(from_height, count_max)
        )

    async def wait_above(self, height: int) -> None:
        """Until the committed height is above ``height``."""
        while self.height <= height:
            await self._moved.wait()

    def certified_head(self) -> CertifiedHead:
        """The head with what proves it."""
        if self._stored is None:
            return CertifiedHead(head=self.head, block=b"", certificate=b"")
        return CertifiedHead(head=self.head, block=self._stored.block, certificate=self._stored.certificate)

    def stored(self, height: int) -> StoredBlock | None:
        """A committed block as stored."""
        return self._chain.block(height)

    def bundle(self, height: int) -> BlockBundle | None:
        """Block, certificate and action bodies; None if the height is not committed here."""
        stored = self._chain.block(height)
        if stored is None:
            return None
        hashes = action_hashes(stored.header, self._blobs.get)
        found = self._blobs.get_many(hashes)
        return BlockBundle(
            block=stored.block, certificate=stored.certificate, actions=tuple(found[item] for item in hashes)
        )

    def links(self, height: int) -> tuple[Cid, ...]:
        """What the block at ``height`` links to."""
        stored = self._chain.block(height)
        if stored is None:
            return ()
        header = stored.header
        return (header.action_root, header.receipts_root, header.journal_ref, header.state_root)

    def journal(self, height: int) -> tuple[Cid, ...]:
        """Link to the journal of the block at ``height``; none if it is not committed here."""
        stored = self._chain.block(height)
        return () if stored is None else (stored.header.journal_ref,)

    def stated_sizes(self, height: int) -> dict[Cid, int]:
        """Sizes in bytes that the objects created at ``height`` state for their content."""
        stored = self._chain.block(height)
        if stored is None:
            return {}
        sizes: dict[Cid, int] = {}
        for event in assemble_journal(stored.header.journal_ref, height, self._blobs.get):
            if event.kind == OBJECT_CREATED:
                created = record.from_bytes(ObjectCreated, event.payload_cbor, size_max=BLOB_BYTES_MAX)
                sizes[created.content] = created.size_bytes
        return sizes

    def time_ms(self, height: int) -> int:
        """Time of the block at ``height``; 0 if it is not committed here."""
        stored = self._chain.block(height)
        return 0 if stored is None else stored.header.timestamp_ms

    def state_at(self, height: int) -> tuple[int, Cid] | None:
        """Epoch and state root after ``height``, 0 for genesis; None if that block is not held here."""
        if height == 0:
            return 0, genesis_head(self.genesis).state_root
        stored = self._chain.block(height)
        return None if stored is None else (stored.header.epoch, stored.header.state_root)

    def state_after(self, height: int) -> WorldState | None:
        """The state after ``height``; None if it is not committed or not held here. Its nodes may be missing."""
        if height == self.height:
            return self.state
        found = self.state_at(height)
        return None if found is None else WorldState(found[1], self._nodes)

    def height_of_event(self, event_id: int) -> int | None:
        """The height whose block holds this event; None if no block here does."""
        return self._chain.height_of_event(event_id)

    def journal_segments(self, height: int) -> tuple[Cid, tuple[JournalSegmentRef, ...]] | None:
        """The block's JournalIndex and what it lists; None if the height is not held here. Raises DataError."""
        stored = self._chain.block(height)
        if stored is None:
            return None
        data = self._blobs.get(stored.header.journal_ref.digest)
        index = record.from_bytes(JournalIndex, data, size_max=BLOB_BYTES_MAX)
        return stored.header.journal_ref, index.segments

    def receipt_segment(self, height: int) -> BlobRef | None:
        """Where the block's ReceiptList is; None if the height is not held here. Raises DataError."""
        stored = self._chain.block(height)
        if stored is None:
            return None
        size = self._blobs.stat(stored.header.receipts_root.digest).size_bytes
        return BlobRef(content=stored.header.receipts_root, size_bytes=U64(size))

    def is_committed(self, action_id: Hash32) -> bool:
        """Whether the action is in a committed block."""
        return self._chain.receipt_position(action_id) is not None

    def receipt(self, action_id: Hash32) -> tuple[U64, Receipt] | None:
        """Height and receipt of a committed action; raises DataError if its block is damaged."""
        position = self._chain.receipt_position(action_id)
        stored = None if position is None else self._chain.block(position.height)
        if position is None or stored is None:
            return None
        return stored.header.height, self.receipts(stored)[position.position]

    def receipts(self, stored: StoredBlock) -> tuple[Receipt, ...]:
        """All receipts of a block."""
        data = self._blobs.get(ContentHash(stored.header.receipts_root.digest))
        return record.from_bytes(ReceiptList, data, size_max=BLOB_BYTES_MAX).receipts

    def next_nonce(self, actor_id: ActorId) -> int | None:
        """The nonce of the actor's next action; None for an unknown actor."""
        found = queries.actor(self.state, actor_id)
        return None if found is None else found.next_nonce


def committed_height(sealed: SealedBlock, certificate: bytes, parent: WorldState) -> CommittedHeight:
    """All that an executed block adds to the store; ``parent`` is the state that it was executed on."""
    block, events = sealed.block, sealed.execution.events
    hands_over = block.next_validators_hash != block.validators_hash
    return CommittedHeight(
        block=sealed.data,
        certificate=certificate,
        action_ids=tuple(receipt.action_id for receipt in sealed.execution.receipts),
        events=(events[0].event_id, events[-1].event_id) if events else None,
        blobs=sealed.blobs,
        next_validators=record.to_bytes(coming_validators(parent)) if hands_over else None,
    )


def check_seat(block: bytes, action_ids: Sequence[bytes], context: HeightContext) -> None:
    """Raise ChainError unless slot, epoch, proposer, time and sets of a block are those its parent allows."""
    header = open_block(block)
    as_proposed = Proposal(
        world_id=context.world_id,
        height=U64(context.height),
        round=header.round,
        valid_round=None,
        block=block,
        actions=tuple(ContentHash(action_id) for action_id in action_ids),
    )
    try:
        check_proposal(as_proposed, context)
    except RemoteError as error:
        raise ChainError(context.height, error.rule, error.detail) from None
