"""wire/blob.py: content by its hash."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.wire import limits, record
from agent_world.wire.blob import FetchBlobRequest, FetchBlobResponse, FetchBlobsRequest, FetchBlobsResponse
from agent_world.wire.cid import ContentHash


@pytest.mark.parametrize("kind", [FetchBlobRequest, FetchBlobResponse, FetchBlobsRequest, FetchBlobsResponse])
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


def test_an_answer_holds_null_for_what_the_server_lacks() -> None:
    answer = FetchBlobsResponse(blobs=(b"", None, b"\x00"))
    assert record.to_bytes(answer).hex() == "a165626c6f62738340f64100"
    assert record.from_bytes(FetchBlobsResponse, record.to_bytes(answer), size_max=100) == answer


def test_a_request_of_the_largest_size_fits_into_its_frame() -> None:
    hashes = (ContentHash(b"\xff" * 32),) * limits.BLOBS_PER_REQUEST_MAX
    assert len(record.to_bytes(FetchBlobsRequest(content_hashes=hashes))) < limits.RPC_INLINE_BYTES_MAX


def test_the_largest_blob_fits_into_an_answer() -> None:
    answer = FetchBlobResponse(content_hash=ContentHash(bytes(32)), blob=bytes(limits.BLOB_BYTES_MAX))
    assert len(record.to_bytes(answer)) < limits.RPC_BODY_BYTES_MAX
