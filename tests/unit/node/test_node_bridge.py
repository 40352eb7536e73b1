"""What a node gives by bitswap, and how its files get their second names."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.distfs.car import unixfs_blocks
from agent_world.distfs.manifest import ManifestBuilder
from agent_world.distfs.unixfs import PbCid, unixfs_nodes
from agent_world.errors import DiskReason, StoreNotReadable, UsageError
from agent_world.node import unixfs_views
from agent_world.node.bridge import Bridge
from agent_world.node.node import Node
from agent_world.store.unixfs import UnixfsView
from agent_world.testing.stack import open_stack, specs
from agent_world.wire import cbor, record
from agent_world.wire.blob import FileManifest
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import U64
from agent_world.wire.limits import BLOB_BYTES_MAX, CHUNK_BYTES

ONE = specs(validators=1)
DATA = os.urandom(BLOB_BYTES_MAX + 5)


async def parts(*data: bytes) -> AsyncGenerator[bytes, None]:
    for part in data:
        yield part


def bridge_of(node: Node) -> Bridge:
    return Bridge(node.blobs, node.unixfs.table, node.find_blobs)


def damage(home: Path, digest: ContentHash) -> None:
    (path,) = home.rglob(f"*{digest.hex()[4:]}")
    path.write_bytes(b"damaged")


async def test_blobs_records_and_nodes_of_files_are_given(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, ONE) as stack:
        await stack.start_all()
        await stack.until_height(1)
        node = stack.node("v1")
        bridge = bridge_of(node)
        file = (await node.large.store(parts(DATA))).cid
        state = node.ledger.head.state_root
        for digest in (file.digest, content_hash(DATA[:CHUNK_BYTES]), state.digest):
            found = bridge.read_block(digest)
            assert bridge.has_block(digest)
            assert found is not None
            assert content_hash(found) == digest
        root = await node.unixfs.root(file)
        assert root is not None
        assert bridge.has_block(root)
        assert content_hash(bridge.read_block(root) or b"") == root
        assert not bridge.has_block(content_hash(b"nowhere"))
        assert bridge.read_block(content_hash(b"nowhere")) is None


async def test_damaged_bytes_are_not_given(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, ONE) as stack:
        await stack.start_all()
        node = stack.node("v1")
        digest = node.blobs.put(os.urandom(100_000))
        damage(tmp_path, digest)
        assert bridge_of(node).read_block(digest) is None
        assert node.blobs.counters()["corrupt"] == 1


async def test_named_files_get_their_names_by_themselves(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, ONE) as stack:
        await stack.start_all()
        node = stack.node("v1")
        views = node.unixfs
        indexed = (await node.files.write("a", None, parts(DATA))).content
        pinned = (await node.large.store(parts(DATA, b"more"))).cid
        record = Cid(Codec.DAG_CBOR, node.blobs.put(cbor.encode({"no": "file"})))
        unnamed = (await node.large.store(parts(DATA, b"unnamed"))).cid
        node.pinning.set("pin", pinned)
        node.pinning.set("record", record)
        await views.look()
        for cid in (indexed, pinned):
            view = views.table.view(cid.digest)
            assert view is not None
            assert view.root == list(unixfs_nodes(cid, lambda name: node.blobs.get(name.digest)))[-1][0].digest
        noted = views.table.view(record.digest)
        assert noted is not None
        assert noted.root is None
        assert views.table.view(unnamed.digest) is None
        assert views.counters["unixfs.files_made"] == 2
        await views.look()
        assert views.counters["unixfs.files_made"] == 2, "what was looked at is not looked at again"


async def test_names_of_contents(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, ONE) as stack:
        await stack.start_all()
        node = stack.node("v1")
        file = (await node.large.store(parts(DATA))).cid
        raw = Cid(Codec.RAW, node.blobs.put(b"small"))
        name = await node.unixfs.name(file)
        assert name is not None
        assert name.startswith("bafyb4i")
        assert await node.unixfs.name(raw) == str(raw)
        assert await node.unixfs.name(Cid(Codec.DAG_CBOR, raw.digest)) is None
        assert await node.unixfs.with_name({}, file) == {"ipfs_cid": name}
        assert await node.unixfs.with_name({}, cid_of(b"not here")) == {}


async def test_a_file_whose_manifest_is_not_whole_is_looked_at_again(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, ONE) as stack:
        await stack.start_all()
        node = stack.node("v1")
        cid = cid_of(b"still to come")
        assert await node.unixfs.root(cid) is None
        assert node.unixfs.table.view(cid.digest) is None
        assert node.unixfs.counters["unixfs.incomplete"] == 1


async def test_files_above_the_limit_and_half_manifests_have_no_second_name(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_stack(tmp_path, ONE) as stack:
        await stack.start_all()
        node = stack.node("v1")
        file = (await node.large.store(parts(DATA))).cid
        wrong = FileManifest(size_bytes=U64(5 * CHUNK_BYTES), links=(cid_of(b"x", Codec.RAW),))
        no_file = Cid(Codec.DAG_CBOR, node.blobs.put(record.to_bytes(wrong)))
        monkeypatch.setattr(unixfs_views, "FILE_BYTES_MAX", len(DATA) - 1)
        assert [await node.unixfs.name(cid) for cid in (file, no_file)] == [None, None]
        assert node.unixfs.counters["unixfs.too_large"] == 1
        assert node.unixfs.table.view(file.digest) == UnixfsView(None), "nobody looks again"


async def test_names_outlive_the_process(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, ONE) as stack:
        await stack.start_all()
        node = stack.node("v1")
        file = (await node.large.store(parts(DATA))).cid
        root = await node.unixfs.root(file)
        assert root is not None
        await stack.stop("v1")
        await stack.start("v1")
        again = stack.node("v1")
        assert again is not node
        assert content_hash(bridge_of(again).read_block(root) or b"") == root
        assert await again.unixfs.root(file) == root
        assert "unixfs.files_made" not in again.unixfs.counters


async def test_the_nodes_of_a_file_go_out_as_an_archive(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, ONE) as stack:
        await stack.start_all()
        node = stack.node("v1")
        file = (await node.large.store(parts(DATA))).cid
        root = await node.archives.unixfs_root(file)
        archive = b"".join([part async for part in node.archives.export_unixfs(root)])
        blocks = list(unixfs_blocks(root, bridge_of(node).read_block))
        assert [type(cid) for cid, _ in blocks] == [PbCid, *[Cid] * 5]
        assert b"".join(data or b"" for _, data in blocks[1:]) == DATA
        assert all(data is not None and cid.to_bytes() + data in archive for cid, data in blocks)
        for cid in (Cid(Codec.RAW, node.blobs.put(b"small")), cid_of(b"not here")):
            with pytest.raises(UsageError, match="no file"):
                await node.archives.unixfs_root(cid)


def test_a_chunk_twice_in_a_file_is_in_the_archive_once() -> None:
    builder = ManifestBuilder()
    blobs = dict([*builder.add(bytes(3 * CHUNK_BYTES)), *builder.finish()])
    (root, node) = list(unixfs_nodes(list(blobs)[-1], blobs.__getitem__))[-1]
    stored = {root.digest: node, **{cid.digest: data for cid, data in blobs.items()}}
    assert [cid for cid, _ in unixfs_blocks(root.digest, stored.get)] == [root, cid_of(bytes(CHUNK_BYTES), Codec.RAW)]


async def test_a_disk_that_cannot_be_read_is_no_block_and_ends_nothing(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_stack(tmp_path, ONE) as stack:
        await stack.start_all()
        node = stack.node("v1")
        bridge = bridge_of(node)
        digest = node.blobs.put(b"a poem")

        def refused(_digest: ContentHash) -> bytes:
            raise StoreNotReadable("the disk", DiskReason.BROKEN)

        assert bridge.read_block(digest) == b"a poem"
        monkeypatch.setattr(node.blobs, "get", refused)
        monkeypatch.setattr(node.blobs, "has", refused)
        assert bridge.read_block(digest) is None
        assert not bridge.has_block(digest)
