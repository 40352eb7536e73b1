from __future__ import annotations

from typing import Any

import pytest

from agent_world.crypto.hashing import content_hash
from agent_world.errors import DecodeError, ErrorCode, Refused, RemoteError
from agent_world.handlers.blob import BlobHandler, open_blob, open_blobs
from agent_world.wire import record
from agent_world.wire.blob import FetchBlobRequest, FetchBlobResponse, FetchBlobsRequest, FetchBlobsResponse
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import BLOB_BYTES_MAX, BLOBS_PER_REQUEST_MAX, RPC_BODY_BYTES_MAX

ONE, TWO, GONE = (content_hash(data) for data in (b"one", b"two", b"gone"))


@pytest.fixture
def handler(blobs: Any) -> BlobHandler:
    blobs.held = {ONE: b"one", TWO: b"two"}
    return BlobHandler(blobs)


def ask(*hashes: ContentHash) -> bytes:
    return record.to_bytes(FetchBlobsRequest(content_hashes=hashes))


async def test_one(handler: BlobHandler, peer: PeerId) -> None:
    answer = await handler.serve_blob(peer, record.to_bytes(FetchBlobRequest(content_hash=ONE)))
    assert open_blob(answer, ONE) == b"one"


async def test_many_in_order_with_null_for_what_is_not_here(handler: BlobHandler, peer: PeerId) -> None:
    answer = await handler.serve_blobs(peer, ask(TWO, GONE, ONE))
    assert record.from_bytes(FetchBlobsResponse, answer, size_max=1000).blobs == (b"two", None, b"one")
    assert open_blobs(answer, [TWO, GONE, ONE]) == ({TWO: b"two", ONE: b"one"}, 0)


async def test_l1_not_here(handler: BlobHandler, peer: PeerId) -> None:
    with pytest.raises(Refused) as caught:
        await handler.serve_blob(peer, record.to_bytes(FetchBlobRequest(content_hash=GONE)))
    assert (caught.value.rule, caught.value.code) == ("L1", ErrorCode.NOT_FOUND)


async def test_l2_too_many(handler: BlobHandler, peer: PeerId) -> None:
    await handler.serve_blobs(peer, ask(*[GONE] * BLOBS_PER_REQUEST_MAX))
    with pytest.raises(Refused) as caught:
        await handler.serve_blobs(peer, ask(*[GONE] * (BLOBS_PER_REQUEST_MAX + 1)))
    assert (caught.value.rule, caught.value.code) == ("L2", ErrorCode.BAD_REQUEST)


async def test_l3_damaged_bytes_are_not_served_and_cost_no_neighbour(
    handler: BlobHandler, blobs: Any, peer: PeerId
) -> None:
    blobs.damaged.add(ONE)
    with pytest.raises(Refused) as caught:
        await handler.serve_blob(peer, record.to_bytes(FetchBlobRequest(content_hash=ONE)))
    assert (caught.value.rule, caught.value.code) == ("L3", ErrorCode.NOT_AVAILABLE)
    answer = await handler.serve_blobs(peer, ask(ONE, TWO))
    assert open_blobs(answer, [ONE, TWO]) == ({TWO: b"two"}, 0)


async def test_an_answer_stays_under_the_body_limit(handler: BlobHandler, blobs: Any, peer: PeerId) -> None:
    large = {content_hash(data): data for data in (bytes([i]) * BLOB_BYTES_MAX for i in range(24))}
    blobs.held = large
    answer = await handler.serve_blobs(peer, ask(*large))
    assert len(answer) < RPC_BODY_BYTES_MAX
    found, _wrong = open_blobs(answer, list(large))
    assert 1 <= len(found) < 24


def response(*blobs: bytes | None) -> bytes:
    return record.to_bytes(FetchBlobsResponse(blobs=blobs))


def test_l4_other_bytes() -> None:
    with pytest.raises(RemoteError) as caught:
        open_blob(record.to_bytes(FetchBlobResponse(content_hash=ONE, blob=b"two")), ONE)
    assert caught.value.rule == "L4"
    assert open_blobs(response(b"two", b"two"), [ONE, TWO]) == ({TWO: b"two"}, 1)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_l4_another_number_of_entries(count: int) -> None:
    with pytest.raises(RemoteError) as caught:
        open_blobs(response(*[None] * count), [ONE, TWO])
    assert caught.value.rule == "L4"


def test_l4_more_than_a_blob() -> None:
    data = bytes(BLOB_BYTES_MAX + 1)
    assert open_blobs(response(data), [content_hash(data)]) == ({}, 1)
    whole = data[:-1]
    assert open_blobs(response(whole), [content_hash(whole)]) == ({content_hash(whole): whole}, 0)


def test_garbage_is_the_peers_fault() -> None:
    with pytest.raises(DecodeError):
        open_blobs(b"\xff", [ONE])
    with pytest.raises(DecodeError):
        open_blob(b"", ONE)
