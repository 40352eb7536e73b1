"""Messages of protocols/blob: content by its hash, one or many; and the manifest of content above one blob."""

from __future__ import annotations

import attrs

from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import U16, U64
from agent_world.wire.record import V1


@attrs.frozen(slots=True, kw_only=True)
class BlobRef:
    """Where an answer is: a blob of the peer that was asked, to be fetched by its hash."""

    content: Cid
    size_bytes: U64


@attrs.frozen(slots=True, kw_only=True)
class FileManifest:
    """A node of the tree over a file's chunks (D2); the CID of the topmost is the file's content.

    The size says the whole shape: every child but the last is full. Links are raw to chunks, dag-cbor to nodes.
    """

    v: U16 = U16(V1)
    size_bytes: U64
    """Of all chunks below."""
    links: tuple[Cid, ...]
    """In the order of the bytes."""


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
    """Answer to fetch_blobs, and each part of the body of stream_blobs, which goes on where the part before ended.

    In the order asked; null for a blob that the server lacks or that no longer fitted into the answer."""

    blobs: tuple[bytes | None, ...]
