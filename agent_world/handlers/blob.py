"""protocols/blob: content by its hash. Who asks hashes what it gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import trio

from agent_world.crypto.hashing import content_hash
from agent_world.errors import BlobHashMismatch, ErrorCode, Refused, RemoteError
from agent_world.handlers.views import BlobView
from agent_world.wire import record
from agent_world.wire.blob import FetchBlobRequest, FetchBlobResponse, FetchBlobsRequest, FetchBlobsResponse
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import (
    BLOB_BYTES_MAX,
    BLOBS_PER_REQUEST_MAX,
    BODY_PART_BYTES_MAX,
    CHUNK_BYTES,
    RPC_BODY_BYTES_MAX,
    RPC_INLINE_BYTES_MAX,
)

_ANSWER_BYTES_MAX = RPC_BODY_BYTES_MAX // 2
"""A multi answer stops adding blobs here, well under the body limit."""


class BlobHandler:
    """Serves blobs: one, many, or a stream of them."""

    def __init__(self, blobs: BlobView) -> None:
        self._blobs = blobs

    async def serve_blob(self, _peer: PeerId, data: bytes) -> bytes:
        """fetch_blob."""
        request = record.from_bytes(FetchBlobRequest, data, size_max=RPC_INLINE_BYTES_MAX)
        try:
            (blob,) = self._blobs.find_blobs([request.content_hash])
        # [IGNORE] L3: stored bytes that do not verify are never served.
        except BlobHashMismatch:
            raise Refused(ErrorCode.NOT_AVAILABLE, "the stored bytes are damaged; ask elsewhere", rule="L3") from None
        # [REJECT] L1: the blob is here.
        if blob is None:
            raise Refused(ErrorCode.NOT_FOUND, f"no blob {request.content_hash.hex()} here", rule="L1")
        return record.to_bytes(FetchBlobResponse(content_hash=request.content_hash, blob=blob))

    async def serve_blobs(self, _peer: PeerId, data: bytes) -> bytes:
        """fetch_blobs: what is missing here, or no longer fits, is null."""
        found: list[bytes | None] = []
        size = 0
        for content in _hashes(data):
            blob = self._one(content) if size < _ANSWER_BYTES_MAX else None
            size += len(blob or b"")
            found.append(blob)
        return record.to_bytes(FetchBlobsResponse(blobs=tuple(found)))

    async def stream_blobs(self, _peer: PeerId, data: bytes) -> AsyncIterator[bytes]:
        """stream_blobs: every hash is answered, however much that is; a part ends once it is as large as a chunk."""
        found: list[bytes | None] = []
        size = 0
        for content in _hashes(data):
            blob = self._one(content)
            size += len(blob or b"")
            found.append(blob)
            if size >= CHUNK_BYTES:
                yield record.to_bytes(FetchBlobsResponse(blobs=tuple(found)))
                await trio.lowlevel.checkpoint()
                found, size = [], 0
        if found:
            yield record.to_bytes(FetchBlobsResponse(blobs=tuple(found)))

    def _one(self, content: ContentHash) -> bytes | None:
        try:
            (blob,) = self._blobs.find_blobs([content])
        except BlobHashMismatch:
            return None  # quarantined and counted by the store; one bad blob never loses its neighbours
        return blob


def _hashes(data: bytes) -> tuple[ContentHash, ...]:
    request = record.from_bytes(FetchBlobsRequest, data, size_max=RPC_INLINE_BYTES_MAX)
    # [REJECT] L2: a bounded number of hashes.
    if len(request.content_hashes) > BLOBS_PER_REQUEST_MAX:
        raise Refused(ErrorCode.BAD_REQUEST, f"more than {BLOBS_PER_REQUEST_MAX} hashes", rule="L2")
    return request.content_hashes


def open_blob(answer: bytes, asked: ContentHash) -> bytes:
    """The blob in an answer to fetch_blob; raises RemoteError if the peer sent other bytes."""
    response = record.from_bytes(FetchBlobResponse, answer, size_max=RPC_BODY_BYTES_MAX)
    _check_bytes(response.blob, asked)
    return response.blob


def open_blobs(answer: bytes, asked: Sequence[ContentHash]) -> tuple[dict[ContentHash, bytes], int]:
    """The blobs in an answer to fetch_blobs, and how many entries were other bytes than asked for.

    Raises RemoteError for what is no answer to these hashes at all; a wrong entry loses none of its neighbours.
    """
    response = record.from_bytes(FetchBlobsResponse, answer, size_max=RPC_BODY_BYTES_MAX)
    if len(response.blobs) != len(asked):
        raise RemoteError("L4", f"{len(response.blobs)} answers to {len(asked)} hashes")
    found, wrong = _sound(response, asked)
    return found, wrong


def open_part(part: bytes, asked: Sequence[ContentHash]) -> tuple[dict[ContentHash, bytes], int, int]:
    """The blobs in a part of a stream_blobs body, how many were other bytes, and how many of ``asked`` it answers.

    Raises RemoteError for what is no answer to the first of these hashes.
    """
    response = record.from_bytes(FetchBlobsResponse, part, size_max=BODY_PART_BYTES_MAX)
    if not 1 <= len(response.blobs) <= len(asked):
        raise RemoteError("L4", f"a part of {len(response.blobs)} answers where {len(asked)} are left")
    found, wrong = _sound(response, asked)
    return found, wrong, len(response.blobs)


def _sound(response: FetchBlobsResponse, asked: Sequence[ContentHash]) -> tuple[dict[ContentHash, bytes], int]:
    found: dict[ContentHash, bytes] = {}
    wrong = 0
    for content, blob in zip(asked, response.blobs, strict=False):
        if blob is None:
            continue
        try:
            _check_bytes(blob, content)
        except RemoteError:
            wrong += 1
        else:
            found[content] = blob
    return found, wrong


def _check_bytes(blob: bytes, asked: ContentHash) -> None:
    # [REJECT] L4: the bytes are a blob and hash to what was asked.
    if len(blob) > BLOB_BYTES_MAX:
        raise RemoteError("L4", f"{len(blob)} bytes are above the limit of a blob, {BLOB_BYTES_MAX}")
    if content_hash(blob) != asked:
        raise RemoteError("L4", f"asked for {asked.hex()[:16]}, got other bytes")
