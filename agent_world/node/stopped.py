"""A home that no process runs, open for looking: what is in it, however it was left."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from agent_world.errors import BlobNotFound, DataError, HomeError
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore
from agent_world.store.chain_rows import StoredBlock
from agent_world.store.home import Home
from agent_world.wire import record
from agent_world.wire.block import Receipt, ReceiptList, WorldBlock
from agent_world.wire.cid import ContentHash
from agent_world.wire.genesis import Genesis
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U64, Hash32
from agent_world.wire.limits import BLOB_BYTES_MAX
from agent_world.wire.membership import EpochBoundary
from agent_world.world.block import head_of
from agent_world.world.genesis import genesis_hash, genesis_head, initial_state, parse_genesis
from agent_world.world.state import WorldState
from agent_world.world.trie import NodeCache


def read_genesis(home: Home) -> Genesis:
    """The world of a home; raises HomeError if its genesis.toml is not the one it was made for."""
    genesis = parse_genesis(home.genesis_toml(), str(home.files.genesis_toml))
    if home.genesis_hash != genesis_hash(genesis):
        raise HomeError(f"{home.files.genesis_toml} is not that of the home, made for {home.genesis_hash.hex()}")
    return genesis


class StoppedHome:
    """Satisfies ``chain_views.Committed``. Nothing is written. Use as a context manager or call ``close``.

    Opening needs a readable database and genesis.toml only: what is damaged beyond that is an error where it is read.
    """

    def __init__(self, path: Path, *, beside_node: bool = False) -> None:
        """Raises HomeError if it is no home, a process runs it, or its database is damaged as a whole.

        ``beside_node``: a node may run on it meanwhile; what is seen is the height committed now.
        """
        self.home = Home.read_only(path) if beside_node else Home.at_rest(path)
        try:
            self.genesis = read_genesis(self.home)
            self.blobs = _WithGenesis(self.home, self.genesis)
            self.chain = ChainStore(self.home, self.blobs)
            self._stored = self.chain.head()
        except BaseException:
            self.home.close()
            raise
        self._nodes = NodeCache(self.blobs.get)

    @property
    def height(self) -> int:
        """Committed height."""
        return self.head.height

    @property
    def header(self) -> WorldBlock | None:
        """The last committed block; None at height 0."""
        return None if self._stored is None else self._stored.header

    @property
    def timestamp_ms(self) -> int:
        """Time of the last block, or of genesis."""
        return self.head.timestamp_ms

    @property
    def head(self) -> WorldHead:
        """The head."""
        stored = self._stored
        return genesis_head(self.genesis) if stored is None else head_of(stored.header, stored.block_hash)

    @property
    def state(self) -> WorldState:
        """The state after the last block; raises DataError where it is missing or damaged, there and when read."""
        return WorldState(self.head.state_root, self._nodes)

    def stored(self, height: int) -> StoredBlock | None:
        """A committed block as stored; raises ChainError if it is damaged."""
        return self.chain.block(height)

    def boundaries(self, from_height: int, count_max: int) -> tuple[EpochBoundary, ...]:
        """Where other sets took over, at this height or above, ascending; raises ChainError."""
        return tuple(
            EpochBoundary(block=found.block, certificate=found.certificate, validators=found.validators)
            for found in self.chain.boundaries(from_height, count_max)
        )

    def receipts(self, stored: StoredBlock) -> tuple[Receipt, ...]:
        """All receipts of a block; raises DataError."""
        data = self.blobs.get(ContentHash(stored.header.receipts_root.digest))
        return record.from_bytes(ReceiptList, data, size_max=BLOB_BYTES_MAX).receipts

    def receipt(self, action_id: Hash32) -> tuple[U64, Receipt] | None:
        """Height and receipt of a committed action; None if it is not committed. Raises DataError."""
        place = self.chain.receipt_position(action_id)
        stored = None if place is None else self.chain.block(place.height)
        if place is None or stored is None:
            return None
        receipts = self.receipts(stored)
        if place.position >= len(receipts):
            raise DataError(f"the receipt row of {action_id.hex()} is damaged; execute its height again: node rollback")
        return stored.header.height, receipts[place.position]

    def close(self) -> None:
        """Let nodes in again."""
        self.home.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _WithGenesis(LocalCasStore):
    """The blobs of a home; the state of genesis, which a node stores when it first runs, is there in any case."""

    def __init__(self, home: Home, genesis: Genesis) -> None:
        super().__init__(home)
        self._genesis_nodes = initial_state(genesis)[1]

    def get(self, content_hash: ContentHash) -> bytes:
        try:
            return super().get(content_hash)
        except BlobNotFound:
            found = self._genesis_nodes.get(content_hash)
            if found is None:
                raise
            return found
