"""Files of a running node, and an index that another node rebuilds from its reference alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import DecodeError, ErrorCode, FileConflict, FileMissing, Refused
from agent_world.node.node import Node
from agent_world.store.file_index import Expect
from agent_world.testing.stack import open_stack, specs
from agent_world.wire import record
from agent_world.wire.blob import FileManifest
from agent_world.wire.file_index import FileIndexManifestRef, FileMetadata
from agent_world.wire.ids import U64
from agent_world.wire.limits import BLOB_BYTES_MAX, U64_MAX

TWO = specs(validators=1, observers=1)


async def parts(*data: bytes) -> AsyncIterator[bytes]:
    for part in data:
        yield part


async def read(node: Node, path: str, start: int = 0, end: int = U64_MAX) -> bytes:
    _, found = node.files.read(path, start, end)
    return b"".join([part async for part in found])


def paths(node: Node) -> list[str]:
    return [file.path for file in node.files.index.list_files()]


async def test_files_of_any_size_and_conditions(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        node = stack.node("v1")
        told: list[FileMetadata] = []
        node.files.index.written = told.append
        large = [os.urandom(BLOB_BYTES_MAX), os.urandom(500)]
        first = await node.files.write("a/b", Expect.NOTHING_THERE, parts(*large))
        assert (first.size_bytes, await read(node, "a/b", 5, BLOB_BYTES_MAX + 9)) == (
            BLOB_BYTES_MAX + 500, b"".join(large)[5 : BLOB_BYTES_MAX + 9],
        )  # fmt: skip
        blobs = node.blobs.usage()
        with pytest.raises(FileConflict):
            await node.files.write("a/b", Expect.NOTHING_THERE, parts(os.urandom(10)))
        assert node.blobs.usage() == blobs
        second = await node.files.write("a/b", first.content_hash, parts(b"second"))
        third = node.files.copy("a/b", "c", None)
        assert told == [first, second, third]

        def outbox_is_full(file: FileMetadata) -> None:
            raise Refused(ErrorCode.BUSY, file.path)

        node.files.index.written = outbox_is_full
        with pytest.raises(Refused):
            await node.files.write("d", None, parts(b"not to be seen anywhere"))
        with pytest.raises(Refused):
            node.files.copy("c", "e", None)
        assert paths(node) == ["a/b", "c"]
        assert await read(node, "c") == b"second"
        with pytest.raises(FileMissing):
            await read(node, "nowhere")
        await node.collecting.collect(grace_ms=0)
        assert (await node.files.audit())["is_clean"]


async def test_a_second_node_rebuilds_the_index_from_its_reference_alone(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        await stack.until_height(2)
        one, other = stack.node("v1"), stack.node("o1")
        for number in range(40):
            await one.files.write(f"small/{number}", None, parts(b"file %d" % number))
        await one.files.write("large", None, parts(*[os.urandom(BLOB_BYTES_MAX)] * 3, b"end"))
        ref = one.files.export(None)
        await other.files.write("of its own", None, parts(b"goes"))
        found = await other.files.take_in(ref, 30)
        assert (found["done"], found["files"]) == (True, 41)
        assert list(other.files.index.list_files()) == list(one.files.index.list_files())
        assert await read(other, "large") == await read(one, "large")
        assert other.files.export(None) == ref
        await other.collecting.collect(grace_ms=0)
        assert (await other.files.audit())["is_clean"]


async def test_an_import_that_fails_leaves_the_index_as_it_was(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        await stack.until_height(2)
        one, other = stack.node("v1"), stack.node("o1")
        file = await one.files.write("a", None, parts(b"content"))
        await other.files.write("own", None, parts(b"own"))
        ref = one.files.export(None)
        nowhere = FileIndexManifestRef(content_hash=content_hash(b"nowhere"), size_bytes=U64(5))
        no_index = record.to_bytes(FileManifest(size_bytes=U64(0), links=()))
        one.blobs.put(no_index)
        wrong = FileIndexManifestRef(content_hash=cid_of(no_index).digest, size_bytes=U64(len(no_index)))
        for taken, error in ((nowhere, Refused), (wrong, DecodeError)):
            with pytest.raises(error):
                await other.files.take_in(taken, 2)
        one.blobs.delete(file.content_hash)
        assert not (await other.files.take_in(ref, 2))["done"]  # manifest and page came, and not the file
        with pytest.raises(Refused, match=file.content_hash.hex()):
            await other.files.take_in(ref, 2)
        assert paths(other) == ["own"]
        assert await read(other, "own") == b"own"


async def test_the_last_export_is_pinned(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        node = stack.node("v1")
        await node.files.write("a", None, parts(b"one"))
        first = node.files.export(None)
        node.files.export("kept")
        await node.files.write("a", None, parts(b"two"))
        second = node.files.export(None)
        await node.collecting.collect(grace_ms=0)
        assert node.blobs.has_many([first.content_hash, second.content_hash, content_hash(b"one")]) == {
            first.content_hash, second.content_hash, content_hash(b"one"),
        }  # fmt: skip
        node.pinning.unpin("kept")
        await node.collecting.collect(grace_ms=0)
        assert node.blobs.has_many([first.content_hash, second.content_hash]) == {second.content_hash}
