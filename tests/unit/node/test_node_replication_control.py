from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from agent_world.errors import ErrorCode, Refused
from agent_world.node.control import ControlApi
from agent_world.node.replication_control import ReplicationRoutes


class FakeReplication:
    """Has the record of height 7."""

    def status(self) -> dict[str, Any]:
        return {"term": 3, "writer_id": None}

    async def commit(self, height: int) -> dict[str, Any]:
        if height != 7:
            raise Refused(ErrorCode.NOT_FOUND, f"no record of height {height}", rule="W12")
        return {"key": bytes(2)}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    routes = ReplicationRoutes(FakeReplication()).routes()
    app: Starlette = ControlApi(None, None, routes).app()  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        yield client


async def test_what_can_be_seen(http: httpx.AsyncClient) -> None:
    assert (await http.get("/replication")).json() == {"term": 3, "writer_id": None}
    assert (await http.get("/replication/commits/7")).json() == {"key": "0000"}


@pytest.mark.parametrize(
    ("height", "status", "code"),
    [
        ("8", 404, "ERR_NOT_FOUND"),
        ("0", 400, "ERR_BAD_REQUEST"),
        ("-1", 400, "ERR_BAD_REQUEST"),
        ("x", 400, "ERR_BAD_REQUEST"),
        ("9" * 19, 400, "ERR_BAD_REQUEST"),
        ("9" * 400, 400, "ERR_BAD_REQUEST"),
        ("\u00b2", 400, "ERR_BAD_REQUEST"),
    ],
)
async def test_heights_without_a_record(http: httpx.AsyncClient, height: str, status: int, code: str) -> None:
    answer = await http.get(f"/replication/commits/{height}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
