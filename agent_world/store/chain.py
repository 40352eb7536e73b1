"""The committed blocks: one transaction a height, and a committed height that never falls (D5, I-4).

The caller has verified the certificate and executed the block; here the chain is kept contiguous, a second block at
a height is refused, and everything is checked again when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from agent_world.crypto.hashing import hash32
from agent_world.errors import ChainError, HomeError, LocalError
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain_rows import BLOCK_COLUMNS, StoredBlock, StoredBoundary, stored_block, stored_boundary
from agent_world.store.database import Database
from agent_world.store.durable import FaultHook, no_fault
from agent_world.store.home import Home
from agent_world.store.staged_blobs import PreparedBlobs
from agent_world.wire.block import WorldBlock, world_block
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import Hash32
from agent_world.wire.limits import (
    CERTIFICATE_BYTES_MAX,
    I64_MAX,
    RANGE_BLOCKS_MAX,
    RANGE_BYTES_MAX,
)

COMMIT_STEPS: Final = (
    "blob_files_written",
    "blob_files_renamed",
    "blob_files_durable",
    "begun",
    "blobs_inserted",
    "block_inserted",
    "head_moved",
    "committed",
)
"""What the fault hook is called with, in order; the first three only when a blob is large enough for a file."""
REDERIVE_STEPS: Final = ("begun", "discarded", "blobs_inserted", "derived", "committed")
"""As COMMIT_STEPS, for ``rederive``."""


@attrs.frozen(slots=True, kw_only=True)
class CommittedHeight:
    """Everything that a height adds to a node."""

    block: bytes
    """Encoded WorldBlock; names its height and parent."""
    certificate: bytes
    """Encoded CommitCertificate."""
    action_ids: tuple[Hash32, ...]
    """In the order of the block's ActionList; empty when a snapshot is adopted."""
    events: tuple[int, int] | None = None
    """First and last event id of the block, both inclusive; None if it has no events."""
    blobs: Mapping[ContentHash, bytes] = {}
    """What the block links to and is new: actions, lists, receipts, journal, state nodes."""
    next_validators: bytes | None = None
    """Encoded ValidatorSetRecord that decides the next height; needed only where it is another than this height's."""


@attrs.frozen(slots=True)
class ReceiptPosition:
    """Where an action was committed; ``position`` counts from 0 within the block."""

    height: int
    position: int


def committed_height_of(database: Database) -> int:
    """Height of the last committed block of a home; 0 before the first."""
    rows = database.query("SELECT height FROM chain_head")
    return int(rows[0][0]) if rows else 0


def last_state(home: Home, blobs: LocalCasStore) -> tuple[Cid, ...]:
    """Root of the state after the last committed block, for a collection; none before the first. Raises ChainError."""
    head = ChainStore(home, blobs).head()
    return () if head is None else (head.header.state_root,)


class ChainStore:
    """Blocks of one home. At most one object per open home may write."""

    def __init__(self, home: Home, blobs: LocalCasStore, *, fault: FaultHook = no_fault) -> None:
        """Raises ChainError if the stored head and its block do not agree."""
        self._database = home.database
        self._genesis_hash = home.genesis_hash
        self._blobs = blobs
        self._fault = fault
        self._kept: frozenset[ContentHash] = frozenset()
        """Blobs of the height stored last by this object: empty blocks have nearly the same ones."""
        head = self.head()
        if head is not None:
            self._check_floor(head)

    def head(self) -> StoredBlock | None:
        """The last committed block; None at height 0, when only the genesis exists. Raises ChainError."""
        height = self.committed_height
        if height == 0:
            return None
        stored = self.block(height)
        if stored is None:
            raise ChainError(height, "head", "the head names a block that is not stored; restore the home from a copy")
        return stored

    @property
    def committed_height(self) -> int:
        """Height of the last committed block, 0 before the first; never falls, also over restarts."""
        return committed_height_of(self._database)

    @property
    def base_height(self) -> int:
        """The first height held: 1, or that of the snapshot this home was started from; 0 before the first block."""
        rows = self._database.query("SELECT base_height FROM chain_head")
        return int(rows[0][0]) if rows else 0

    def commit_height(self, committed: CommittedHeight) -> bool:
        """Store the next height, durably and as one transaction; False if this very block is stored already.

        Raises ChainError for a height out of order, another block at a committed height, or a parent that is not
        the stored one; DataErrors of the blobs; HomeError for the disk. After an error nothing has changed.
        """
        header, block_hash = _decode(committed)
        # The head's row alone: its block was checked when it was stored, or when this home was opened.
        rows = self._database.query("SELECT height, block_hash FROM chain_head")
        height, parent = rows[0] if rows else (0, self._genesis_hash)
        if header.height <= height:
            self._require_same(header.height, block_hash)
            return False
        if header.height != height + 1:
            raise ChainError(header.height, "height", f"not the next height: {height} is the last committed one")
        if header.prev_block_hash != parent:
            raise ChainError(
                header.height, "prev_block_hash", f"{header.prev_block_hash.hex()[:16]}… is not the block at {height}"
            )
        self._store(committed, header, block_hash)
        return True

    def adopt_snapshot(self, committed: CommittedHeight) -> None:
        """Begin at a certified snapshot's block (D5); ``blobs`` may hold its state. Only once, on an empty home.

        Raises ChainError if anything is committed already.
        """
        header, block_hash = _decode(committed)
        if self.committed_height:
            raise ChainError(header.height, "snapshot", "this home has blocks already; use a new home for a snapshot")
        self._store(committed, header, block_hash)

    def rederive(self, heights: Sequence[CommittedHeight]) -> None:
        """Discard what executing these committed heights gave, and store what executing them again has given.

        One transaction. Blocks, certificates and the committed height stay as they are; blobs of the heights are
        written anew, also where they look sound. Raises ChainError if one is not the block committed at its height,
        or if its rows contradict those of another; then nothing has changed.
        """
        headers = [_decode(committed) for committed in heights]
        for header, block_hash in headers:
            self._require_same(header.height, block_hash)
        blobs = {digest: data for committed in heights for digest, data in committed.blobs.items()}
        with self._database.transaction():
            self._fault("begun")
            self._blobs.discard(blobs)
            self._database.execute_many(
                "DELETE FROM receipts WHERE height = ?", [(header.height,) for header, _ in headers]
            )
            self._database.execute_many(
                "UPDATE blocks SET first_event_id = NULL, last_event_id = NULL WHERE height = ?",
                [(header.height,) for header, _ in headers],
            )
            self._fault("discarded")
            self._put(self._blobs.prepare(blobs, kept=True))
            self._fault("blobs_inserted")
            for committed, (header, _) in zip(heights, headers, strict=True):
                self._derive(committed, header)
            self._fault("derived")
        self._fault("committed")

    def _derive(self, committed: CommittedHeight, header: WorldBlock) -> None:
        height = header.height
        try:
            self._database.execute(
                "UPDATE blocks SET first_event_id = ?, last_event_id = ? WHERE height = ?",
                (*(committed.events or (None, None)), height),
            )
            self._insert_receipts(committed, height)
        except LocalError as error:
            raise ChainError(height, "rows", f"{error}: a row of another height is damaged; go back further") from None
        self._database.execute("DELETE FROM boundaries WHERE height = ?", (height,))
        self._note_boundary(committed, header)

    def block(self, height: int) -> StoredBlock | None:
        """The committed block at ``height``, checked; None if it is not held. Raises ChainError if damaged."""
        rows = self._database.query(f"SELECT {BLOCK_COLUMNS} FROM blocks WHERE height = ?", (_bound(height),))
        return stored_block(rows[0]) if rows else None

    def block_by_hash(self, block_hash: Hash32) -> StoredBlock | None:
        """The committed block with this hash, checked; None if it is not held. Raises ChainError if damaged."""
        rows = self._database.query(f"SELECT {BLOCK_COLUMNS} FROM blocks WHERE block_hash = ?", (block_hash,))
        return stored_block(rows[0]) if rows else None

    def range(self, from_height: int, to_height: int, *, bytes_max: int = RANGE_BYTES_MAX) -> tuple[StoredBlock, ...]:
        """Consecutive blocks from ``from_height`` to ``to_height``, both inclusive, starting with the first.

        Fewer if one is not held, after RANGE_BLOCKS_MAX, or once blocks and certificates exceed ``bytes_max`` (the
        first is given always). Raises ChainError if one is damaged.
        """
        last = min(_bound(to_height), _bound(from_height) + RANGE_BLOCKS_MAX - 1)
        rows = self._database.query(
            f"SELECT {BLOCK_COLUMNS} FROM blocks WHERE height BETWEEN ? AND ? ORDER BY height",
            (_bound(from_height), last),
        )
        blocks: list[StoredBlock] = []
        total = 0
        for row in rows:
            stored = stored_block(row)
            total += len(stored.block) + len(stored.certificate)
            if stored.height != from_height + len(blocks) or (blocks and total > bytes_max):
                break
            blocks.append(stored)
        return tuple(blocks)

    def boundaries(self, from_height: int, count_max: int) -> tuple[StoredBoundary, ...]:
        """Where other sets took over, at ``from_height`` or above, ascending; they stay when blocks are pruned.

        Raises ChainError if one is damaged.
        """
        rows = self._database.query(
            "SELECT height, block, certificate, validators FROM boundaries WHERE height >= ? ORDER BY height LIMIT ?",
            (_bound(from_height), count_max),
        )
        return tuple(stored_boundary(row) for row in rows)

    def receipt_position(self, action_id: Hash32) -> ReceiptPosition | None:
        """Where this action was committed; None if it was not, or before ``base_height``."""
        rows = self._database.query("SELECT height, position FROM receipts WHERE action_id = ?", (action_id,))
        return ReceiptPosition(*rows[0]) if rows else None

    def height_of_event(self, event_id: int) -> int | None:
        """The height whose block holds this event; None if no held block does."""
        rows = self._database.query(
            "SELECT height, last_event_id FROM blocks WHERE first_event_id <= ? ORDER BY first_event_id DESC LIMIT 1",
            (_bound(event_id),),
        )
        return int(rows[0][0]) if rows and rows[0][1] >= event_id else None

    def event_range(self, height: int) -> tuple[int, int] | None:
        """First and last event id of a held block; None if it has no events or is not held."""
        rows = self._database.query(
            "SELECT first_event_id, last_event_id FROM blocks WHERE height = ?", (_bound(height),)
        )
        return None if not rows or rows[0] == (None, None) else (rows[0][0], rows[0][1])

    def row_counts(self, up_to: int = I64_MAX) -> tuple[int, int]:
        """Rows of blocks and of receipts; for finding rows that no block accounts for.

        Not those of heights after ``up_to`` that are committed: a node may commit some meanwhile.
        """
        stray = "height > coalesce((SELECT height FROM chain_head), 0)"
        counts = (
            self._database.query(f"SELECT count(*) FROM {table} WHERE height <= ? OR {stray}", (up_to,))[0][0]
            for table in ("blocks", "receipts")
        )
        blocks, receipts = counts
        return int(blocks), int(receipts)

    def _store(self, committed: CommittedHeight, header: WorldBlock, block_hash: Hash32) -> None:
        # Files first, rows after: a crash in between leaves files that nobody can see.
        here = frozenset() if self._blobs.has_lost_kept() else self._kept
        new = {digest: data for digest, data in committed.blobs.items() if digest not in here}
        prepared = self._blobs.prepare(new, kept=True)
        with self._database.transaction():
            self._fault("begun")
            self._put(prepared)
            self._fault("blobs_inserted")
            first, last = committed.events or (None, None)
            self._database.execute(
                "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    header.height, block_hash, committed.block, committed.certificate, hash32(committed.certificate),
                    first, last,
                ),
            )  # fmt: skip
            self._insert_receipts(committed, header.height)
            self._fault("block_inserted")
            self._note_boundary(committed, header)
            self._database.execute(
                "INSERT INTO chain_head VALUES (1, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " height = excluded.height, block_hash = excluded.block_hash",
                (header.height, header.height, block_hash),
            )
            self._fault("head_moved")
        self._fault("committed")
        self._kept = frozenset(committed.blobs)

    def _put(self, prepared: PreparedBlobs) -> None:
        """Inside a transaction, and without a pause since they were prepared."""
        if self._blobs.insert(prepared, kept=True):
            raise HomeError("blobs were removed while a block was stored: another program writes to this home")

    def _insert_receipts(self, committed: CommittedHeight, height: int) -> None:
        # An action id takes effect at most once (I-9), so a second row for one is a bug and undoes the commit.
        self._database.execute_many(
            "INSERT INTO receipts VALUES (?, ?, ?)",
            [(action_id, height, position) for position, action_id in enumerate(committed.action_ids)],
        )

    def _note_boundary(self, committed: CommittedHeight, header: WorldBlock) -> None:
        if header.next_validators_hash == header.validators_hash:
            return
        coming = committed.next_validators
        if coming is None or hash32(coming) != header.next_validators_hash:
            raise ChainError(header.height, "next_validators", "the set that takes over was not given")
        self._database.execute(
            "INSERT INTO boundaries VALUES (?, ?, ?, ?)",
            (header.height, committed.block, committed.certificate, coming),
        )

    def _require_same(self, height: int, block_hash: Hash32) -> None:
        """A committed height has exactly one block, for ever."""
        if height < self.base_height:
            raise ChainError(height, "height", "below the snapshot this home was started from")
        stored = self.block(height)
        if stored is None or stored.block_hash != block_hash:
            raise ChainError(height, "block", "another block is committed at this height; nothing was changed")

    def _check_floor(self, head: StoredBlock) -> None:
        named = self._database.query("SELECT block_hash FROM chain_head")[0][0]
        above = self._database.query("SELECT max(height) FROM blocks")[0][0]
        if named != head.block_hash or above != head.height:
            raise ChainError(head.height, "head", "head and blocks do not agree; restore the home from a copy")


def _decode(committed: CommittedHeight) -> tuple[WorldBlock, Hash32]:
    """Header and hash of a block to be stored; a fault here is the caller's, since peers' blocks were verified."""
    header = world_block(committed.block)
    if not 1 <= header.height <= I64_MAX:
        raise ChainError(header.height, "height", f"not in 1..{I64_MAX}")
    if len(committed.certificate) > CERTIFICATE_BYTES_MAX:
        raise ChainError(header.height, "certificate", f"{len(committed.certificate)} bytes are above the limit")
    return header, hash32(committed.block)


def _bound(number: int) -> int:
    """Numbers of a request may be any u64; SQLite's end at 2^63 - 1, above which nothing is stored."""
    return max(0, min(number, I64_MAX))
