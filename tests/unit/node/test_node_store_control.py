from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.errors import ErrorCode, Refused, UsageError
from agent_world.node.answers import Tell, untold
from agent_world.node.collecting import Collected
from agent_world.node.control import ControlApi
from agent_world.node.store_control import StoreRoutes
from agent_world.store.collector import Garbage
from agent_world.store.pins import Pin
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import TimeMs

CID = cid_of(b"content")


class Fake:
    """Pins and garbage that note what they are asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def new(self, name: str, cid: Cid, *, recursive: bool = True, expires_in_ms: int | None = None) -> Pin:
        end = None if expires_in_ms is None else TimeMs(expires_in_ms)
        return Pin(name=name, cid=cid, recursive=recursive, made_ms=TimeMs(0), expires_ms=end)

    async def pin(self, pin: Pin, timeout_s: float) -> int:
        self.asked.append((pin, timeout_s))
        return 3

    def unpin(self, name: str) -> Pin:
        if name != "a":
            raise Refused(ErrorCode.NOT_FOUND, "no such pin")
        return self.new(name, CID)

    def rows(self) -> list[dict[str, Any]]:
        return [{"name": "a", "cid": str(CID)}]

    def take_in(self, found: Any) -> int:
        if "pins" not in found:
            raise UsageError("no pins")
        return len(found["pins"])

    async def collect(
        self, *, dry_run: bool = False, grace_ms: int | None = None, evict: bool = False, tell: Tell = untold
    ) -> Collected:
        tell({"marked": 3})
        self.asked.append((dry_run, grace_ms, evict))
        return Collected(
            unreachable=Garbage(2, 20),
            freed=Garbage(1, 10),
            missing=0,
            damaged=0,
            orphan_files=0,
            took_ms=1,
            dry_run=dry_run,
        )

    async def remove(self, content: ContentHash) -> int:
        self.asked.append(content)
        return 7


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
async def http(fake: Fake) -> AsyncIterator[httpx.AsyncClient]:
    app = ControlApi(None, fake, StoreRoutes(fake, fake).routes()).app()  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        yield client


async def test_pins(http: httpx.AsyncClient, fake: Fake) -> None:
    assert (await http.get("/pins")).json() == {"version": 1, "pins": fake.rows()}
    asked = {"name": "a", "cid": str(CID), "recursive": False, "expires_in_ms": 9, "timeout_ms": 1_500}
    found = (await http.post("/pins", json=asked)).json()
    assert found == {"name": "a", "cid": str(CID), "fetched": 3, "expires_ms": 9}
    assert fake.asked == [(fake.new("a", CID, recursive=False, expires_in_ms=9), 1.5)]
    assert (await http.post("/pins/remove", json={"name": "a"})).json() == {"name": "a", "cid": str(CID)}
    assert (await http.post("/pins/remove", json={"name": "b"})).status_code == 404
    assert (await http.post("/pins/import", json={"pins": [1, 2]})).json() == {"pins": 2}
    assert (await http.post("/pins/import", json={})).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b'{"name": "a"}', b'{"name": 1, "cid": "x"}', b'{"name": "a", "cid": "x", "recursive": 1}',
        b'{"name": "a", "cid": "no cid"}', b'{"name": "a", "cid": "no cid", "timeout_ms": -1}', b"[" * 100_000,
    ],
)  # fmt: skip
async def test_a_pin_that_is_none_is_refused(http: httpx.AsyncClient, fake: Fake, body: bytes) -> None:
    response = await http.post("/pins", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "ERR_BAD_REQUEST"
    assert (await http.post("/pins/remove", content=body)).status_code in (400, 200)
    assert fake.asked == []


async def test_garbage(http: httpx.AsyncClient, fake: Fake) -> None:
    found = (await http.post("/gc", json={"dry_run": True, "grace_ms": 5})).json()
    assert (found["freed"], found["dry_run"]) == ({"items": 1, "size_bytes": 10}, True)
    assert (await http.post("/gc", json={})).status_code == 200
    assert fake.asked == [(True, 5, False), (False, None, False)]
    for wrong in ({"dry_run": 1}, {"grace_ms": -1}, {"grace_ms": "5"}, {"grace_ms": 2**63}):
        assert (await http.post("/gc", json=wrong)).status_code == 400


async def test_a_blob_is_removed(http: httpx.AsyncClient, fake: Fake) -> None:
    found = (await http.post(f"/blobs/{CID.digest.hex()}/remove")).json()
    assert found == {"content_hash": CID.digest.hex(), "freed_bytes": 7}
    assert fake.asked == [CID.digest]
    assert (await http.post("/blobs/none/remove")).status_code in (400, 422)
