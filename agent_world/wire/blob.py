"""Messages of protocols/blob: content by its hash, one or many."""

from __future__ import annotations

import attrs

from agent_world.wire.cid import ContentHash


@attrs.frozen(slots=True, kw_only=True)
class FetchBlobRequest:
    """fetch_blob."""

    content_hash: ContentHash


@attrs.frozen(slots=True, kw_only=True)
class FetchBlobResponse:
    """The asker hashes ``blob`` and compares, whoever answered."""

    content_hash: ContentHash
    blob: bytes


@attrs.frozen(slots=True, kw_only=True)
class FetchBlobsRequest:
    """fetch_blobs: up to 1024 hashes in one request."""

    content_hashes: tuple[ContentHash, ...]


@attrs.frozen(slots=True, kw_only=True)
class FetchBlobsResponse:
    """In the order asked; null for a blob that the server lacks or that no longer fitted into the answer."""

    blobs: tuple[bytes | None, ...]
