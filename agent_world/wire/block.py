"""Messages of protocols/block: the block header, what it links to, and how blocks are fetched."""

from __future__ import annotations

import functools
from enum import StrEnum
from typing import Final

import attrs

from agent_world.wire.blob import BlobRef
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import U16, U32, U64, Hash32, Label, TimeMs, ValidatorId, WorldId
from agent_world.wire.limits import HEADER_BYTES_MAX
from agent_world.wire.record import V1, from_bytes, to_bytes

ACTION_LISTS_CACHED_MAX: Final = 8
"""Lists kept encoded: checking, executing and storing a block all need the list of its actions."""
BLOCKS_CACHED_MAX: Final = 16
"""Blocks kept decoded; those of one height are rarely more than one a round."""


@attrs.frozen(slots=True, kw_only=True)
class WorldBlock:
    """A block: its encoding is hashed to the block hash, signed in proposals and stored.

    References to content are links; references backwards in time are plain hashes (D2).
    """

    v: U16 = U16(V1)
    world_id: WorldId
    height: U64
    """1 for the first block."""
    slot: U64
    """slot(parent) + 1 + round; the draw's input for this block's proposer (D4)."""
    round: U32
    """Round of the block's first proposal; a re-proposal keeps the block byte for byte."""
    epoch: U64
    """slot_epoch of slot(parent) + 1: the same in every round of a height."""
    prev_block_hash: Hash32
    """Hash of the parent block; the genesis hash for height 1."""
    proposer_id: ValidatorId
    """The proposer of ``round``."""
    timestamp_ms: TimeMs
    """Proposer's clock, later than the parent's."""
    validators_hash: Hash32
    """Hash of the validator set that decides this height."""
    next_validators_hash: Hash32
    """Hash of the set that decides the next height."""
    action_root: Cid
    """Link to the ActionList."""
    event_root: Hash32
    """BLAKE3 of the encoded list of all events of this block, in order."""
    receipts_root: Cid
    """Link to the ReceiptList."""
    journal_ref: Cid
    """Link to the JournalIndex."""
    state_root: Cid
    """Link to the StateRoot after this block."""
    lease_term: U64
    """Term of the last lease granted so far, 0 before the first: a writer with a lower one has been superseded."""


@functools.lru_cache(maxsize=BLOCKS_CACHED_MAX)
def world_block(data: bytes) -> WorldBlock:
    """The block of these bytes, not checked any further; raises DecodeError.

    A block is looked into when it is proposed, executed and stored, each time by its bytes.
    """
    return from_bytes(WorldBlock, data, size_max=HEADER_BYTES_MAX)


@attrs.frozen(slots=True, kw_only=True)
class ActionList:
    """The block's actions in order of execution; each link is the CID (dag-cbor) of an encoded Signed."""

    v: U16 = U16(V1)
    actions: tuple[Cid, ...]


@functools.lru_cache(maxsize=ACTION_LISTS_CACHED_MAX)
def action_list_bytes(action_ids: tuple[Hash32 | ContentHash, ...]) -> bytes:
    """The encoded ActionList of these actions; an action's id is the hash of its encoding."""
    return to_bytes(ActionList(actions=tuple(Cid(Codec.DAG_CBOR, ContentHash(each)) for each in action_ids)))


class Outcome(StrEnum):
    """What became of an action that is in a block."""

    APPLIED = "applied"
    REJECTED = "rejected"
    """A rule refused it; only the nonce was used up."""


@attrs.frozen(slots=True, kw_only=True)
class Receipt:
    """What an action did: for the agent who sent it."""

    action_id: Hash32
    outcome: Outcome
    code: Label
    """``ok``, or the stable reason of the refusal, such as ``insufficient_balance``."""
    from_event_id: U64
    """First event this action caused; 0 if none."""
    event_count: U32


@attrs.frozen(slots=True, kw_only=True)
class ReceiptList:
    """One receipt an action, in the same order."""

    v: U16 = U16(V1)
    receipts: tuple[Receipt, ...]


@attrs.frozen(slots=True, kw_only=True)
class Event:
    """A fact that came true in the world."""

    event_id: U64
    """1 for the world's first event, then without a gap."""
    height: U64
    caused_by: Hash32 | None
    """The action's id; none for what the block itself caused."""
    kind: Label
    payload_cbor: bytes
    """DAG-CBOR of the record that belongs to ``kind``."""


@attrs.frozen(slots=True, kw_only=True)
class JournalSegment:
    """Up to 256 consecutive events."""

    v: U16 = U16(V1)
    events: tuple[Event, ...]


@attrs.frozen(slots=True, kw_only=True)
class JournalSegmentRef:
    """Where events ``from_event_id`` to ``to_event_id`` (both inclusive) are stored."""

    from_event_id: U64
    to_event_id: U64
    content: Cid
    size_bytes: U64


@attrs.frozen(slots=True, kw_only=True)
class JournalIndex:
    """The journal of one block."""

    v: U16 = U16(V1)
    segments: tuple[JournalSegmentRef, ...]


@attrs.frozen(slots=True, kw_only=True)
class StateRoot:
    """One hash trie a namespace; the CID of this record is the state root (D6)."""

    v: U16 = U16(V1)
    namespaces: tuple[NamespaceRoot, ...]
    """Ascending by name."""


@attrs.frozen(slots=True, kw_only=True)
class NamespaceRoot:
    """Root of one namespace's trie."""

    name: Label
    root: Cid


@attrs.frozen(slots=True, kw_only=True)
class BlockAnnounce:
    """Gossip on ``aw.<world>.block``: a certified block exists; everything else is fetched."""

    v: U16 = U16(V1)
    world_id: WorldId
    height: U64
    block_hash: Hash32
    prev_block_hash: Hash32
    event_root: Hash32
    state_root: Cid
    timestamp_ms: TimeMs


@attrs.frozen(slots=True, kw_only=True)
class GetBlockRequest:
    """get_block."""

    world_id: WorldId
    height: U64


@attrs.frozen(slots=True, kw_only=True)
class GetBlocksRequest:
    """get_blocks: consecutive blocks from ``from_height`` to ``to_height``, both inclusive."""

    world_id: WorldId
    from_height: U64
    to_height: U64


@attrs.frozen(slots=True, kw_only=True)
class BlockBundle:
    """A block with all that is needed to verify and execute it."""

    block: bytes
    certificate: bytes
    actions: tuple[bytes, ...]
    """Encoded Signed actions in the order of the block's ActionList."""


@attrs.frozen(slots=True, kw_only=True)
class GetBlocksResponse:
    """At least one block if the server has the first; it may stop early at its byte bound."""

    bundles: tuple[BlockBundle, ...]


@attrs.frozen(slots=True, kw_only=True)
class GetJournalSegmentRequest:
    """get_journal_segment: either the event that is looked for or the height, never both."""

    world_id: WorldId
    from_event_id: U64 | None
    height: U64 | None


@attrs.frozen(slots=True, kw_only=True)
class GetJournalSegmentResponse:
    """Segments of one block, ascending: from the one that holds the event on, or all of the height."""

    height: U64
    journal_ref: Cid
    """Link to the block's JournalIndex."""
    segments: tuple[JournalSegmentRef, ...]


@attrs.frozen(slots=True, kw_only=True)
class GetReceiptSegmentRequest:
    """get_receipt_segment: either an event of the block or its height, never both."""

    world_id: WorldId
    from_event_id: U64 | None
    height: U64 | None


@attrs.frozen(slots=True, kw_only=True)
class GetReceiptSegmentResponse:
    """The ReceiptList of one block."""

    height: U64
    segment: BlobRef
