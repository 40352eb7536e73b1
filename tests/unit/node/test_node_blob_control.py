"""Routes by which stored blobs are looked at and checked: what is asked of the view, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import UsageError
from agent_world.node.blob_control import BODY_BYTES_MAX, CHECKED_MAX, LISTED_MAX, BlobRoutes
from agent_world.node.control import ControlApi
from agent_world.wire.cid import Cid, ContentHash

ONE = content_hash(b"one")
CID = cid_of(b"one")


class FakeBlobs:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def listed(self, prefix: str, after: ContentHash | None, limit: int) -> list[dict[str, Any]]:
        if prefix == "no":
            raise UsageError("not a prefix")
        self.asked.append((prefix, after, limit))
        return [{"content_hash": ONE, "size_bytes": 3, "is_file": False}]

    async def stat(self, cid: Cid) -> dict[str, Any]:
        return {"cid": cid}

    async def verify(self, contents: list[Cid], *, heal: bool) -> dict[str, Any]:
        self.asked.append((contents, heal))
        return {"done": len(contents)}

    async def verify_stored(self, prefix: str, after: ContentHash | None, *, heal: bool) -> dict[str, Any]:
        self.asked.append((prefix, after, heal))
        return {"next": None}


@pytest.fixture
def view() -> FakeBlobs:
    return FakeBlobs()


@pytest.fixture
async def http(view: FakeBlobs) -> AsyncIterator[httpx.AsyncClient]:
    app: Starlette = ControlApi(None, None, BlobRoutes(view).routes()).app()  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        yield client


async def test_the_list(http: httpx.AsyncClient, view: FakeBlobs) -> None:
    row = {"content_hash": ONE.hex(), "size_bytes": 3, "is_file": False}
    assert (await http.get("/blobs")).json() == {"blobs": [row]}
    await http.get("/blobs", params={"prefix": "ab", "after": ONE.hex(), "limit": "7"})
    assert view.asked == [("", None, LISTED_MAX), ("ab", ONE, 7)]


async def test_one_blob(http: httpx.AsyncClient) -> None:
    assert (await http.get(f"/blobs/{CID}/stat")).json() == {"cid": str(CID)}
    assert (await http.get(f"/blobs/{ONE.hex()}/stat")).status_code == 400


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": str(LISTED_MAX + 1)}, {"limit": "x"}, {"limit": "²"}, {"after": "ab"}, {"prefix": "no"}],
)
async def test_what_cannot_be_listed(http: httpx.AsyncClient, view: FakeBlobs, query: dict[str, str]) -> None:
    refused = await http.get("/blobs", params=query)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "ERR_BAD_REQUEST")
    assert view.asked == []


async def test_checking(http: httpx.AsyncClient, view: FakeBlobs) -> None:
    assert (await http.post("/blobs/verify", json={"contents": [str(CID)], "heal": True})).json() == {"done": 1}
    assert (await http.post("/blobs/verify", json={})).json() == {"next": None}
    await http.post("/blobs/verify", json={"prefix": "ab", "after": ONE.hex(), "heal": True})
    assert view.asked == [([CID], True), ("", None, False), ("ab", ONE, True)]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"heal": 1},
        {"contents": "x"},
        {"contents": [1]},
        {"contents": ["x"]},
        {"contents": [str(CID)] * (CHECKED_MAX + 1)},
        {"prefix": 1},
        {"after": 1},
        {"after": "x"},
    ],
)
async def test_what_cannot_be_checked(http: httpx.AsyncClient, view: FakeBlobs, body: object) -> None:
    refused = await http.post("/blobs/verify", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "ERR_BAD_REQUEST")
    assert view.asked == []


@pytest.mark.filterwarnings("ignore:.*ByteStream.__aiter__:pytest.PytestUnraisableExceptionWarning")
async def test_a_body_that_is_no_json(http: httpx.AsyncClient) -> None:
    assert (await http.post("/blobs/verify", content=b"{")).status_code == 400
    assert (await http.post("/blobs/verify", content=bytes(2 * BODY_BYTES_MAX))).status_code == 400
    assert len(str(CID)) * CHECKED_MAX < BODY_BYTES_MAX
