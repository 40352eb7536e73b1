"""Announcing, finding and checking providers over the control API, with the memory network's DHT."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from agent_world.crypto.hashing import cid_of
from agent_world.node.control import ControlApi
from agent_world.node.node import Node
from agent_world.node.node_routes import node_routes
from agent_world.testing.stack import open_stack, specs
from agent_world.wire.cid import Cid, Codec


@asynccontextmanager
async def http_of(node: Node) -> AsyncIterator[httpx.AsyncClient]:
    app = ControlApi(None, None, node_routes(node)).app()  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        yield client


async def test_content_is_announced_found_and_checked(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=2, observers=1)) as stack:
        await stack.start_all()
        await stack.until_height(3)
        holder, seeker = stack.node("v1"), stack.node("o1")
        cid = Cid(Codec.RAW, holder.blobs.put(b"provided"))
        async with http_of(holder) as http:
            assert (await http.get("/provide")).json()["joined"] is True
            found = (await http.post("/provide", json={"cids": [str(cid)]})).json()
            assert found["new"] == 1
            assert found["announced"] >= 1
            assert (await http.post("/provide", json={"cids": [str(cid)]})).json()["new"] == 0
            missing = await http.post("/provide", json={"cids": [str(cid_of(b"nowhere"))]})
            assert (missing.status_code, missing.json()["error"]["code"]) == (404, "ERR_NOT_FOUND")
            for body in (b"", b"[]", b'{"cids": 5}', b'{"cids": ["x"]}', b'{"cids": [5]}'):
                assert (await http.post("/provide", content=body)).status_code == 400
        async with http_of(seeker) as http:
            named = (await http.get(f"/provide/{cid}", params={"check": "1"})).json()
            assert [row["provider_id"] for row in named["providers"]] == [stack.members["v1"].peer_id]
            assert named["checked_bytes"] == 8
            assert not seeker.blobs.has(cid.digest)
            nobody = await http.get(f"/provide/{cid_of(b'nowhere')}", params={"check": "1"})
            assert nobody.json()["error"]["code"] == "ERR_NOT_AVAILABLE"
            refused = await http.post("/provide", json={"cids": []})
            assert (refused.status_code, refused.json()["error"]["code"]) == (501, "ERR_UNSUPPORTED")
