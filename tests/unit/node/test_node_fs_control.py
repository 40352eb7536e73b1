from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_world.crypto.hashing import content_hash
from agent_world.node.control import ControlApi
from agent_world.node.fs_control import ROWS_MAX
from agent_world.node.node_routes import node_routes
from agent_world.testing.stack import open_stack, specs


@pytest.fixture
async def http(tmp_path: Path, autojump_clock: object) -> AsyncIterator[httpx.AsyncClient]:
    async with open_stack(tmp_path, specs(validators=1)) as stack:
        await stack.start_all()
        app = ControlApi(None, None, node_routes(stack.node("v1"))).app()  # type: ignore[arg-type]
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            yield client


def code(response: httpx.Response) -> tuple[int, Any]:
    return response.status_code, response.json()["error"]["code"]


async def test_a_file_is_written_read_listed_and_removed(http: httpx.AsyncClient) -> None:
    written = (await http.post("/fs/file", params={"path": "./a//b", "if_absent": "1"}, content=b"0123456789")).json()
    assert (written["path"], written["size_bytes"], written["content_hash"]) == (
        "a/b", 10, content_hash(b"0123456789").hex(),
    )  # fmt: skip
    stat = (await http.get("/fs/stat", params={"path": "a/b"})).json()
    assert stat == {**written, "ipfs_cid": written["cid"]}
    assert written.pop("is_local") is True
    response = await http.get("/fs/file", params={"path": "a/b", "offset": "3", "length": "4"})
    assert (response.content, response.headers["content-length"], response.headers["x-content-size"]) == (
        b"3456", "4", "10",
    )  # fmt: skip
    copied = (await http.post("/fs/copy", json={"source": "a/b", "path": "c", "if_absent": True})).json()
    assert copied.pop("is_local") is True
    assert (await http.get("/fs/files")).json() == {"files": [written, copied], "more": False}
    assert (await http.get("/fs/files", params={"prefix": "a/"})).json()["files"] == [written]
    assert (await http.get("/fs/files", params={"after": "a/b"})).json()["files"] == [copied]
    assert (await http.post("/fs/remove", json={"path": "a/b"})).json() == {"path": "a/b", "removed": True}
    assert (await http.post("/fs/remove", json={"path": "a/b"})).json()["removed"] is False
    audit = (await http.post("/fs/audit", json={})).json()
    assert (audit["total_indexed_files"], audit["is_clean"]) == (1, True)
    ref = (await http.post("/fs/export", json={})).json()
    assert (await http.post("/fs/import", json=ref)).json() == {"done": True, "fetched": 0, "files": 1}


async def test_long_lists_come_in_pages(http: httpx.AsyncClient) -> None:
    await http.post("/fs/file", params={"path": "f"}, content=b"")
    for number in range(ROWS_MAX):
        await http.post("/fs/copy", json={"source": "f", "path": f"many/{number:05}"})
    first = (await http.get("/fs/files")).json()
    assert (len(first["files"]), first["more"]) == (ROWS_MAX, True)
    rest = (await http.get("/fs/files", params={"after": first["files"][-1]["path"]})).json()
    assert ([file["path"] for file in rest["files"]], rest["more"]) == ([f"many/{ROWS_MAX - 1:05}"], False)


async def test_conditions_and_bad_input_have_codes(http: httpx.AsyncClient) -> None:
    """T-2.8: a hash that is none is refused for writes and for removals."""
    await http.post("/fs/file", params={"path": "f"}, content=b"one")
    stale, digest = "11" * 32, content_hash(b"one").hex()
    refused = [
        (await http.post("/fs/file", params={"path": "f", "if_absent": "1"}, content=b"x"), "ERR_STATE_MISMATCH"),
        (await http.post("/fs/file", params={"path": "f", "if_match": stale}, content=b"x"), "ERR_STATE_MISMATCH"),
        (await http.post("/fs/file", params={"path": "f", "if_match": "../bad"}, content=b"x"), "ERR_BAD_REQUEST"),
        (await http.post("/fs/file", params={"path": "f", "if_match": digest, "if_absent": "1"}), "ERR_BAD_REQUEST"),
        (await http.post("/fs/file", params={"path": "../f"}, content=b"x"), "ERR_BAD_REQUEST"),
        (await http.post("/fs/file", content=b"x"), "ERR_BAD_REQUEST"),
        (await http.get("/fs/file", params={"path": "none"}), "ERR_NOT_FOUND"),
        (await http.get("/fs/file", params={"path": "f", "offset": "-1"}), "ERR_BAD_REQUEST"),
        (await http.get("/fs/stat", params={"path": "none"}), "ERR_NOT_FOUND"),
        (await http.post("/fs/remove", json={"path": "f", "if_match": stale}), "ERR_STATE_MISMATCH"),
        (await http.post("/fs/remove", json={"path": "f", "if_match": 5}), "ERR_BAD_REQUEST"),
        (await http.post("/fs/remove", json={"path": "f", "if_match": "../bad"}), "ERR_BAD_REQUEST"),
        (await http.post("/fs/remove", content=b"["), "ERR_BAD_REQUEST"),
        (await http.post("/fs/copy", json={"source": "none", "path": "g"}), "ERR_NOT_FOUND"),
        (await http.post("/fs/copy", json={"source": "f"}), "ERR_BAD_REQUEST"),
        (await http.post("/fs/export", json={"pin": ""}), "ERR_BAD_REQUEST"),
        (await http.post("/fs/import", json={"content_hash": "x", "size_bytes": 1}), "ERR_BAD_REQUEST"),
        (await http.post("/fs/import", json={"content_hash": stale, "size_bytes": -1}), "ERR_BAD_REQUEST"),
        (await http.post("/fs/import", json={"content_hash": stale, "size_bytes": 1}), "ERR_NOT_AVAILABLE"),
    ]
    assert [code(response)[1] for response, _ in refused] == [wanted for _, wanted in refused]
    assert (await http.get("/fs/file", params={"path": "f"})).content == b"one"
