"""What parts that store or fetch content ask of a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import attrs

from agent_world.store.blob_hold import BlobHold
from agent_world.store.staged_blobs import PreparedBlobs, StagedBlobs
from agent_world.wire.cid import Codec, ContentHash


@attrs.frozen(slots=True)
class BlobStat:
    """What is known of a blob without reading it."""

    content_hash: ContentHash
    size_bytes: int
    is_file: bool


@attrs.frozen(slots=True)
class BlobUsage:
    """All blobs of a store together."""

    blobs: int
    size_bytes: int
    kept_bytes: int = 0
    """Of these, the chain's, which count against no quota."""


class BlobStore(Protocol):
    """What parts that store or fetch content ask of a store."""

    def put(self, data: bytes) -> ContentHash:
        """Store durably; the same content twice is stored once. Raises BlobTooLarge."""
        ...

    def put_many(self, blobs: Iterable[bytes]) -> tuple[ContentHash, ...]:
        """Store all or none, in one durable batch; hashes in the order given. Raises BlobTooLarge, StoreFull."""
        ...

    def stage(self, blobs: Mapping[ContentHash, bytes], *, verified: bool = False) -> StagedBlobs:
        """First part of a put in steps, whose waits may be in another thread.

        ``verified``: the caller has made every hash from these very bytes. Raises BlobTooLarge, BlobHashMismatch,
        StoreFull.
        """
        ...

    def commit(self, prepared: PreparedBlobs) -> frozenset[ContentHash]:
        """Last part: what was written exists from now on. What has gone since it was staged is to be staged again."""
        ...

    def hold(self) -> BlobHold:
        """Keeps what is stored from now on until its root is."""
        ...

    def get(self, content_hash: ContentHash) -> bytes:
        """Verified bytes. Raises BlobNotFound, BlobHashMismatch."""
        ...

    def get_range(self, content_hash: ContentHash, start: int, end: int, *, codec: Codec = Codec.DAG_CBOR) -> bytes:
        """Verified bytes ``start`` to ``end`` of a file, by its manifest, or of a blob. Raises RangeOutside, as get."""
        ...

    def get_many(self, content_hashes: Iterable[ContentHash]) -> dict[ContentHash, bytes]:
        """Those that are here and verify; one bad blob does not lose its neighbours."""
        ...

    def has(self, content_hash: ContentHash) -> bool:
        """Whether it is stored; its bytes are not looked at."""
        ...

    def has_many(self, content_hashes: Iterable[ContentHash]) -> frozenset[ContentHash]:
        """Those that are stored."""
        ...

    def stat(self, content_hash: ContentHash) -> BlobStat:
        """Raises BlobNotFound."""
        ...

    def iterate(self, after: ContentHash | None = None) -> Iterator[ContentHash]:
        """All hashes above ``after``, ascending."""
        ...

    def delete(self, content_hash: ContentHash) -> bool:
        """Remove; whether it was there."""
        ...
