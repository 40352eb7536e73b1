"""What other IPFS implementations get from this node by bitswap: what any peer gets by ``fetch_blob``, and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent_world.errors import BlobHashMismatch, StoreFault
from agent_world.store.blobs import LocalCasStore
from agent_world.store.unixfs import UnixfsTable
from agent_world.wire.cid import ContentHash


class Bridge:
    """Satisfies ``net.interface.BlockSource``."""

    def __init__(
        self,
        blobs: LocalCasStore,
        unixfs: UnixfsTable,
        find_blobs: Callable[[Sequence[ContentHash]], list[bytes | None]],
    ) -> None:
        self._blobs = blobs
        self._unixfs = unixfs
        self._find_blobs = find_blobs

    def has_block(self, digest: ContentHash) -> bool:
        """Whether ``read_block`` would give it; stored bytes are not looked at."""
        try:
            return self._blobs.has(digest) or self._unixfs.has(digest) or self._found(digest) is not None
        except StoreFault:
            return False  # noted and shown by the store; whoever asks looks elsewhere

    def read_block(self, digest: ContentHash) -> bytes | None:
        """Verified bytes of that hash, whatever codec they were asked for by."""
        try:
            found = self._found(digest)
            return self._unixfs.node(digest) if found is None else found
        except StoreFault:
            return None  # as above

    def _found(self, digest: ContentHash) -> bytes | None:
        try:
            (found,) = self._find_blobs([digest])
        except BlobHashMismatch:
            return None  # quarantined and counted by the store, and healed from another node
        return found
