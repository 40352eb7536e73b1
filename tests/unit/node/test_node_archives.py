"""Archives out of one node and into another; and over the control API."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.car import car_header, car_section
from agent_world.errors import ErrorCode, Refused, StoreNotWritable, UsageError
from agent_world.node.control import ControlApi
from agent_world.node.node import Node
from agent_world.node.node_routes import node_routes
from agent_world.testing.faulty_disk import FaultyDisk
from agent_world.testing.stack import open_stack, specs
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.limits import BLOB_BYTES_MAX

TWO = specs(validators=1, observers=1)


async def parts(*data: bytes) -> AsyncGenerator[bytes, None]:
    for part in data:
        yield part


async def exported(node: Node, cid: Cid) -> bytes:
    return b"".join([part async for part in node.archives.export(cid)])


async def test_a_file_goes_out_and_comes_in_whole(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        one, other = stack.node("v1"), stack.node("o1")
        stored = await one.large.store(parts(*[os.urandom(BLOB_BYTES_MAX)] * 2, b"end"))
        assert await one.archives.prepare(stored.cid, 0, local_only=True) == 0
        data = await exported(one, stored.cid)
        found = await other.archives.take_in(parts(data[:1_000], data[1_000:]), "backup")
        assert (found["roots"], found["missing"]) == ([str(stored.cid)], 0)
        await other.collecting.collect(grace_ms=0)
        assert await other.large.here(stored.cid) == stored.size_bytes
        assert await exported(other, stored.cid) == data
        assert [row["name"] for row in other.pinning.rows()] == ["backup"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
async def test_an_archive_that_the_disk_does_not_take_pins_nothing(
    tmp_path: Path, autojump_clock: object, number: int
) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        disk = FaultyDisk(stack.members["o1"].home)
        with disk.active():
            await stack.start_all()
            one, other = stack.node("v1"), stack.node("o1")
            stored = await one.large.store(parts(os.urandom(BLOB_BYTES_MAX), b"end"))
            data = await exported(one, stored.cid)
            for writes in (0, 1, 2, 3, 5, 8):
                disk.break_after(writes, number, lasting=True)
                with pytest.raises(StoreNotWritable):
                    await other.archives.take_in(parts(data), "backup")
                disk.mend()
                assert other.pinning.rows() == []
            assert (await other.archives.take_in(parts(data), "backup"))["missing"] == 0
            assert await exported(other, stored.cid) == data


async def test_what_is_missing_is_fetched_or_counted(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        await stack.until_height(2)
        one, other = stack.node("v1"), stack.node("o1")
        stored = await one.large.store(parts(os.urandom(BLOB_BYTES_MAX), b"end"))
        with pytest.raises(Refused) as caught:
            await other.archives.prepare(stored.cid, 0, local_only=True)
        assert caught.value.code is ErrorCode.NOT_FOUND
        other.blobs.put(one.blobs.get(stored.cid.digest))
        assert await other.archives.prepare(stored.cid, 0, local_only=True) == 5
        assert await other.archives.prepare(stored.cid, 20, local_only=False) == 0
        assert await exported(other, stored.cid) == await exported(one, stored.cid)
        with pytest.raises(Refused):
            await other.archives.prepare(cid_of(b"nowhere"), 0, local_only=False)


async def test_a_wrong_block_ends_the_import_and_pins_nothing(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        node = stack.node("v1")
        good, bad = cid_of(b"good", Codec.RAW), cid_of(b"bad", Codec.RAW)
        data = car_header([good]) + car_section(good, b"good") + car_section(bad, b"worse")
        with pytest.raises(UsageError, match="CAR block 2"):
            await node.archives.take_in(parts(data), None)
        assert node.pinning.rows() == []
        assert node.blobs.has(good.digest)
        two = car_header([good, bad]) + car_section(good, b"good") + car_section(bad, b"bad")
        with pytest.raises(UsageError, match="2 roots"):
            await node.archives.take_in(parts(two), "name")
        assert (await node.archives.take_in(parts(two), None))["blocks"] == 2
        assert len(node.pinning.rows()) == 2


async def test_over_the_control_api(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=1)) as stack:
        await stack.start_all()
        node = stack.node("v1")
        cid = Cid(Codec.RAW, node.blobs.put(b"content"))
        app = ControlApi(None, None, node_routes(node)).app()  # type: ignore[arg-type]
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as http:
            response = await http.get(f"/car/{cid}", params={"local_only": "1"})
            assert (response.content, response.headers["x-missing"]) == (await exported(node, cid), "0")
            found = (await http.post("/car", params={"pin": "x"}, content=response.content)).json()
            assert found == {"roots": [str(cid)], "blocks": 1, "missing": 0}
            assert (await http.post("/car", content=b"no archive")).status_code == 400
            assert (await http.get(f"/car/{cid}", params={"timeout_ms": "x"})).status_code == 400
