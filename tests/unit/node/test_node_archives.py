"""Archives out of one node and into another; and over the control API."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.car import car_header, car_section
from agent_world.distfs.content_stream import cid_of_stream
from agent_world.distfs.links import links_in
from agent_world.distfs.manifest import open_manifest
from agent_world.distfs.unixfs_dag import UnixfsDag
from agent_world.errors import ErrorCode, Refused, StoreNotWritable, UsageError
from agent_world.node.control import ControlApi
from agent_world.node.node import Node
from agent_world.node.node_routes import node_routes
from agent_world.store.car_file import CarFile
from agent_world.testing.faulty_disk import FaultyDisk
from agent_world.testing.stack import open_stack, specs
from agent_world.wire import cbor
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


async def test_what_was_here_and_is_not_in_the_archive_stays_or_is_counted_as_missing(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection comes right after it was seen to be here."""
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        node = stack.node("o1")
        leaf = Cid(Codec.RAW, node.blobs.put(b"leaf"))
        top = cbor.encode({"leaf": leaf})
        await node.collecting.collect()
        await trio.sleep(1)
        count = node.archives._missing

        async def count_then_collect(cid: Cid) -> int:
            missing = await count(cid)
            await node.collecting.collect(grace_ms=0)
            return missing

        monkeypatch.setattr(node.archives, "_missing", count_then_collect)
        found = await node.archives.take_in(parts(car_header([cid_of(top)]) + car_section(cid_of(top), top)), None)
        assert found["missing"] == 0
        assert node.blobs.has(leaf.digest)


@pytest.mark.parametrize("unixfs", [False, True])
async def test_an_export_that_comes_to_lack_a_block_fails_rather_than_leave_it_out(
    tmp_path: Path, autojump_clock: object, unixfs: bool
) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        node = stack.node("v1")
        stored = await node.large.store(parts(os.urandom(2 * BLOB_BYTES_MAX)))
        chunk = links_in(stored.cid, node.blobs.get(stored.cid.digest))[-1]
        root = await node.archives.unixfs_root(stored.cid)

        async def export(*, local_only: bool) -> int:
            if unixfs:
                return sum([len(part) async for part in node.archives.export_unixfs(root, local_only=local_only)])
            return sum([len(part) async for part in node.archives.export(stored.cid, local_only=local_only)])

        whole = await export(local_only=False)
        node.blobs.delete(chunk.digest)
        with pytest.raises(Refused, match="has gone"):
            await export(local_only=False)
        assert await export(local_only=True) < whole - 100_000


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


async def test_what_goes_out_for_other_tools_is_read_by_who_reads_theirs(
    tmp_path: Path, autojump_clock: object
) -> None:
    """Over the control API: ``unixfs=1`` gives a UnixFS tree that reads as the file, whose content hash is the same."""
    async with started(tmp_path) as node, over_http(node) as http:
        content = os.urandom(BLOB_BYTES_MAX) * 3 + b"end"
        stored = await node.large.store(parts(content))
        response = await http.get(f"/car/{stored.cid}", params={"unixfs": "1", "local_only": "1"})
        assert (response.status_code, response.headers["x-missing"]) == (200, "0")
        car = CarFile(io.BytesIO(response.content), Path("a.car"))
        car.scan(lambda _size: None)
        assert [str(root) for root in car.roots] == [await node.unixfs.name(stored.cid)]
        dag = UnixfsDag(car)
        assert dag.measure(car.roots[0]).size_bytes == len(content)
        assert cid_of_stream(dag.parts(car.roots[0])) == stored.cid
        assert b"".join(dag.parts(car.roots[0])) == content
        for value in ("0", ""):
            plain = await http.get(f"/car/{stored.cid}", params={"unixfs": value, "local_only": "1"})
            assert plain.content == await exported(node, stored.cid) != response.content


async def test_what_is_no_file_of_several_blocks_has_no_archive_for_other_tools(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with started(tmp_path) as node, over_http(node) as http:
        for cid in (Cid(Codec.RAW, node.blobs.put(b"one blob")), cid_of(b"\xa0")):
            node.blobs.put(b"\xa0")
            response = await http.get(f"/car/{cid}", params={"unixfs": "1", "local_only": "1"})
            assert (response.status_code, response.json()["error"]["code"]) == (400, "ERR_BAD_REQUEST")
            assert "no file of several blocks" in response.json()["error"]["message"]
        gone = await http.get(f"/car/{cid_of(b'nowhere')}", params={"unixfs": "1", "local_only": "1"})
        assert gone.status_code == 404


async def test_chunks_that_are_not_here_are_counted_and_left_out_of_either_archive(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with started(tmp_path) as node, over_http(node) as http:
        stored = await node.large.store(parts(os.urandom(BLOB_BYTES_MAX), b"end"))
        links = open_manifest(stored.cid, node.blobs.get(stored.cid.digest)).links
        node.blobs.delete(links[1].digest)
        response = await http.get(f"/car/{stored.cid}", params={"unixfs": "1", "local_only": "1"})
        assert (response.status_code, response.headers["x-missing"]) == (200, "1")
        car = CarFile(io.BytesIO(response.content), Path("a.car"))
        car.scan(lambda _size: None)
        assert car.blocks == len(links)  # one less, and the root
        with pytest.raises(UsageError, match="is not in the archive"):
            UnixfsDag(car).measure(car.roots[0])


@asynccontextmanager
async def started(path: Path) -> AsyncIterator[Node]:
    async with open_stack(path, specs(validators=1)) as stack:
        await stack.start_all()
        yield stack.node("v1")


@asynccontextmanager
async def over_http(node: Node) -> AsyncIterator[httpx.AsyncClient]:
    app = ControlApi(None, None, node_routes(node)).app()  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as http:
        yield http


async def test_over_the_control_api(tmp_path: Path, autojump_clock: object) -> None:
    async with started(tmp_path) as node, over_http(node) as http:
        cid = Cid(Codec.RAW, node.blobs.put(b"content"))
        response = await http.get(f"/car/{cid}", params={"local_only": "1"})
        assert (response.content, response.headers["x-missing"]) == (await exported(node, cid), "0")
        found = (await http.post("/car", params={"pin": "x"}, content=response.content)).json()
        assert found == {"roots": [str(cid)], "blocks": 1, "missing": 0}
        assert (await http.post("/car", content=b"no archive")).status_code == 400
        assert (await http.get(f"/car/{cid}", params={"timeout_ms": "x"})).status_code == 400
