from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from agent_world.errors import ErrorCode, Refused
from agent_world.node.control import ControlApi
from agent_world.node.replica_control import ReplicaRoutes


class FakeReplicas:
    """Plans nothing while ``plans`` is false."""

    def __init__(self) -> None:
        self.plans = True
        self.rounds = 0

    def status(self) -> dict[str, Any]:
        return {"target": 3, "rounds": self.rounds, "key": bytes(2)}

    async def plan(self) -> dict[str, Any]:
        self._require()
        return {"looked_at": 4}

    async def round(self) -> dict[str, Any]:
        self._require()
        self.rounds += 1
        return self.status()

    def _require(self) -> None:
        if not self.plans:
            raise Refused(ErrorCode.UNSUPPORTED, "this node plans no copies")


@pytest.fixture
def replicas() -> FakeReplicas:
    return FakeReplicas()


@pytest.fixture
async def http(replicas: FakeReplicas) -> AsyncIterator[httpx.AsyncClient]:
    app: Starlette = ControlApi(None, None, ReplicaRoutes(replicas).routes()).app()  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        yield client


async def test_what_can_be_seen_and_done(http: httpx.AsyncClient, replicas: FakeReplicas) -> None:
    assert (await http.get("/replicas")).json() == {"target": 3, "rounds": 0, "key": "0000"}
    assert (await http.get("/replicas/plan")).json() == {"looked_at": 4}
    assert (await http.post("/replicas/rounds")).json()["rounds"] == 1
    assert (await http.get("/replicas/rounds")).status_code == 405, "a round is no reading"
    assert replicas.rounds == 1


async def test_a_node_that_plans_nothing_says_so(http: httpx.AsyncClient, replicas: FakeReplicas) -> None:
    replicas.plans = False
    for answer in (await http.get("/replicas/plan"), await http.post("/replicas/rounds")):
        assert answer.json()["error"]["code"] == "ERR_UNSUPPORTED"
    assert (await http.get("/replicas")).status_code == 200
