"""Stack tier: damage to a node's blobs is found by its own reading or by request, and healed by its neighbours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import httpx
import trio

from agent_world.config import MINIMAL
from agent_world.crypto.hashing import content_hash
from agent_world.node.blob_control import BlobRoutes
from agent_world.node.blob_views import BlobControl
from agent_world.node.control import ControlApi
from agent_world.node.node import Node
from agent_world.node.scrub import START_S
from agent_world.testing.stack import Stack, open_stack, specs
from agent_world.wire.cid import Cid
from agent_world.wire.limits import CHUNK_BYTES

SIZE = 5 * CHUNK_BYTES + 7
SWARM = specs(validators=3)


async def parts() -> AsyncIterator[bytes]:
    await trio.lowlevel.checkpoint()
    yield (b"%07d\n" * (SIZE // 8 + 1) % tuple(range(SIZE // 8 + 1)))[:SIZE]


async def put_everywhere(stack: Stack) -> Cid:
    stored = [await stack.node(name).large.store(parts()) for name in ("v1", "v2")]
    assert stored[0] == stored[1]
    return stored[0].cid


def client(node: Node) -> httpx.AsyncClient:
    app = ControlApi(None, None, BlobRoutes(BlobControl(node)).routes()).app()  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://node")


async def test_a_file_is_verified_with_all_its_chunks_and_healed(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await stack.until_height(1)
        cid = await put_everywhere(stack)
        files = sorted((stack.members["v1"].home / "blobs").glob("??/*"))
        assert len(files) == 5, "the last chunk is small and no file"
        files[0].write_bytes(files[0].read_bytes()[:-1])
        files[1].unlink()
        async with client(stack.node("v1")) as http:
            root = (await http.post("/blobs/verify", json={"contents": [str(cid)]})).json()
            assert (root["done"], len(root["links"]), root["found"]) == (1, 6, [])
            asked = {"contents": root["links"], "heal": True}
            found = (await http.post("/blobs/verify", json=asked)).json()
            assert {entry["content_hash"] for entry in found["found"]} == {files[0].name, files[1].name}
            assert {entry["verdict"] for entry in found["found"]} == {"healed"}
            assert (await http.post("/blobs/verify", json=asked)).json()["found"] == []
            stat = (await http.get(f"/blobs/{cid}/stat")).json()
            assert (stat["links"], stat["file_size_bytes"]) == (6, SIZE)
        assert all(content_hash(file.read_bytes()).hex() == file.name for file in files)


async def test_everything_is_verified_a_part_at_a_time(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        node = stack.node("v1")
        node.blobs.put_many(b"%d" % number for number in range(600))
        after, done = None, 0
        async with client(node) as http:
            while True:
                found = (await http.post("/blobs/verify", json={"after": after})).json()
                done += found["done"]
                after = found["next"]
                if after is None:
                    break
            assert 600 <= done <= found["total"], "each blob once"
            listed = (await http.get("/blobs", params={"prefix": "a"})).json()["blobs"]
        assert 0 < len(listed) < 600
        assert all(row["content_hash"].startswith("a") for row in listed)


async def test_the_slow_reading_finds_what_nobody_reads(tmp_path: Path, autojump_clock: object) -> None:
    storage = attrs.evolve(MINIMAL.storage, scrub_bytes_per_s=1024 * 1024, scrub_pause_s=60.0)
    async with open_stack(tmp_path, SWARM, config=attrs.evolve(MINIMAL, storage=storage)) as stack:
        await stack.start_all()
        await put_everywhere(stack)
        file = sorted((stack.members["v1"].home / "blobs").glob("??/*"))[3]
        whole = file.read_bytes()
        file.write_bytes(whole[:100] + bytes([whole[100] ^ 4]) + whole[101:])
        await trio.sleep(START_S)
        await stack.until(lambda: stack.status("v1")["storage"]["scrub"]["passes"] == 1, "all blobs were read")
        assert file.read_bytes() == whole
        assert (stack.counters("v1")["scrub.healed"], stack.counters("v1").get("scrub.not_healed", 0)) == (1, 0)
