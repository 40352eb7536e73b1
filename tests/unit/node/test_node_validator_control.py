from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from agent_world.crypto.hashing import hash32
from agent_world.node.control import ControlApi
from agent_world.wire.consensus import ValidatorEntry
from agent_world.wire.ids import U64, PublicKey, ValidatorId
from agent_world.wire.membership import ChangeKind, MembershipApproval, MembershipChange

CHANGE_ID = hash32(b"change")


class FakeValidator:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def changes(self) -> list[dict[str, Any]]:
        return [{"change_id": CHANGE_ID}]

    async def file(self, payload: object) -> dict[str, Any]:
        self.asked.append(payload)
        return {"code": "ok", "action_id": CHANGE_ID}

    def lease(self) -> dict[str, Any]:
        return {"term": 3}

    async def acquire_lease(self, ttl_ms: int | None, *, keep: bool) -> dict[str, Any]:
        self.asked.append((ttl_ms, keep))
        return {"code": "ok"}

    async def release_lease(self) -> dict[str, Any]:
        self.asked.append("release")
        return {"code": "ok"}


@pytest.fixture
def validator() -> FakeValidator:
    return FakeValidator()


@pytest.fixture
async def http(validator: FakeValidator) -> AsyncIterator[httpx.AsyncClient]:
    app: Starlette = ControlApi(None, validator).app()  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        yield client


async def test_what_can_be_seen(http: httpx.AsyncClient) -> None:
    assert (await http.get("/lease")).json() == {"term": 3}
    assert (await http.get("/validators/changes")).json() == {"changes": [{"change_id": CHANGE_ID.hex()}]}


async def test_the_lease(http: httpx.AsyncClient, validator: FakeValidator) -> None:
    assert (await http.post("/lease/acquire", json={"ttl_ms": 500, "keep": True})).json() == {"code": "ok"}
    assert (await http.post("/lease/acquire", json={})).status_code == 200
    assert (await http.post("/lease/release")).status_code == 200
    assert validator.asked == [(500, True), (None, False), "release"]


async def test_filing_and_approving_a_change(http: httpx.AsyncClient, validator: FakeValidator) -> None:
    member = {"validator_id": "v9", "public_key": "11" * 32, "stake": 7}
    change = {
        "kind": "add_validator", "validators": [member], "removed": [], "with_lease": False, "reason": "more hands",
    }  # fmt: skip
    assert (await http.post("/validators/changes", json=change)).status_code == 200
    assert (await http.post(f"/validators/changes/{CHANGE_ID.hex()}", json={"approve": False})).status_code == 200
    entry = ValidatorEntry(validator_id=ValidatorId("v9"), public_key=PublicKey(bytes([0x11]) * 32), stake=U64(7))
    assert validator.asked == [
        MembershipChange(
            kind=ChangeKind.ADD,
            validators=(entry,),
            removed=(),
            with_lease=False,
            reason="more hands",  # type: ignore[arg-type]
        ),
        MembershipApproval(change_id=CHANGE_ID, approve=False),
    ]


@pytest.mark.parametrize(("path", "body"), [
    ("/lease/acquire", {"ttl_ms": "5"}),
    ("/lease/acquire", {"keep": 1}),
    ("/lease/acquire", []),
    ("/validators/changes", {}),
    ("/validators/changes", {"kind": "add_validator", "validators": [{}], "removed": []}),
    ("/validators/changes", {"kind": "add_validator", "validators": [{"public_key": "xx"}], "removed": []}),
    ("/validators/changes", {"kind": "add_validator", "validators": 7, "removed": []}),
    (f"/validators/changes/{CHANGE_ID.hex()}", {"approve": "yes"}),
    ("/validators/changes/nonsense", {"approve": True}),
])  # fmt: skip
async def test_what_is_malformed_is_a_bad_request(
    http: httpx.AsyncClient, validator: FakeValidator, path: str, body: object
) -> None:
    response = await http.post(path, json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "ERR_BAD_REQUEST")
    assert validator.asked == []


async def test_a_body_that_is_no_json(http: httpx.AsyncClient) -> None:
    assert (await http.post("/lease/acquire", content=b"{")).status_code == 400
