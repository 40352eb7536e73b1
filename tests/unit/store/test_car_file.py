"""Archives as files: blocks by their CIDs in any order; archives that Helia has made."""

from __future__ import annotations

import errno
import io
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent_world.distfs.car import car_header, car_section
from agent_world.distfs.content_stream import ContentBuilder
from agent_world.distfs.manifest import Span
from agent_world.distfs.unixfs import UnixfsBuilder
from agent_world.distfs.unixfs_dag import UnixfsDag
from agent_world.distfs.unixfs_node import BLOCK_BYTES_MAX
from agent_world.errors import UsageError
from agent_world.store import car_file
from agent_world.store.car_file import CarFile, roots_at
from agent_world.testing.unixfs_made import Made, header
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ipfs_cid import HashFunction, IpfsCid, IpfsCodec
from agent_world.wire.limits import BLOB_BYTES_MAX, CHUNK_BYTES, MIB
from agent_world.wire.protobuf import varint

HELIA = Path(__file__).parent / "helia"
HELLO = b"hello from Helia\n"
FROM_HELIA = {
    "/hello.txt": HELLO,
    "/again.txt": HELLO,
    "/empty": b"",
    "/äöü/deep/blocks.bin": bytes((place * 7 + (place >> 8)) & 0xFF for place in range(3000)),
    **{f"/many/file {number}": b"number %d" % number for number in range(40)},
}
"""What make_archive.mjs puts in."""


@contextmanager
def opened(data: bytes) -> Iterator[CarFile]:
    car = CarFile(io.BytesIO(data), Path("archive.car"))
    told: list[int] = []
    car.scan(told.append)
    assert sum(told) == len(data)
    yield car


def read(car: CarFile) -> dict[str, bytes]:
    dag = UnixfsDag(car)
    (root,) = car.roots
    dag.measure(root)
    return {
        entry.path.removeprefix(str(root)): b"".join(dag.parts(entry.cid)) for entry in dag.entries(root)
    }  # fmt: skip


def refused(data: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said), opened(data):
        pass


@pytest.mark.parametrize(("name", "root", "blocks"), [
    ("cid_v1.car", "bafybeidpmn3vlpekykv5u7i65tbl36s4sidxbyirfbv5hicc77cewxcp5a", 55),
    ("cid_v0.car", "QmVNaFkW6TQkeExKi2kEyqkqJVoDczCHgnXx2VD8Mrz6G4", 55),
])  # fmt: skip
def test_what_helia_has_put_into_an_archive_comes_out(name: str, root: str, blocks: int) -> None:
    data = (HELIA / name).read_bytes()
    assert [str(cid) for cid in roots_at(data)] == [root]
    with opened(data) as car:
        assert ([str(cid) for cid in car.roots], car.blocks) == ([root], blocks)
        assert read(car) == FROM_HELIA


def sections_of(made: Made, *, shuffled: int) -> list[bytes]:
    found = [varint(len(key) + 2 + len(block)) + b"\x01\x70" + key + block for key, block in made.items()]
    random.Random(shuffled).shuffle(found)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_blocks_does_not_matter_and_neither_do_doubles(seed: int) -> None:
    made = Made()
    parts = [made.leaf(b"part %d" % number) for number in range(9)]
    root = made.folder({"f": made.file([(part, 6) for part in parts]), "g": parts[0]})
    sections = sections_of(made, shuffled=seed)
    expected = {"/f": b"".join(b"part %d" % number for number in range(9)), "/g": b"part 0"}
    with opened(header(root) + b"".join(sections) + b"".join(sections[:4])) as car:
        assert (read(car), car.blocks) == (expected, len(sections) + 4)


@pytest.mark.parametrize("size", [BLOB_BYTES_MAX + 1, 6 * CHUNK_BYTES, 180 * CHUNK_BYTES + 5])
def test_a_file_that_we_export_for_others_comes_back_as_the_same_content(size: int) -> None:
    chunk = os.urandom(CHUNK_BYTES)
    data = b"".join(number.to_bytes(4, "big") + chunk[4:] for number in range(size // CHUNK_BYTES + 1))[:size]
    builder, nodes = ContentBuilder(), UnixfsBuilder()
    blobs = [*builder.add(data), *builder.finish()]
    sections: list[bytes] = []
    for cid, blob in blobs:
        if cid.codec is Codec.RAW:
            sections.append(car_section(cid, blob))
            made = list(nodes.add(Span(cid, 0, len(blob), 0)))
            sections += [car_section(*node) for node in made]
    made = list(nodes.finish())
    sections += [car_section(*node) for node in made]
    with opened(car_header([made[-1][0]]) + b"".join(sections)) as car:
        dag = UnixfsDag(car)
        dag.measure(car.roots[0])
        again = ContentBuilder()
        stored: list[tuple[Cid, bytes]] = []
        for part in dag.parts(car.roots[0]):
            assert len(part) <= CHUNK_BYTES
            stored += again.add(part)
        assert [*stored, *again.finish()] == blobs


def test_blocks_up_to_the_limit_of_other_tools() -> None:
    made = Made()
    large = os.urandom(BLOCK_BYTES_MAX)
    root = made.leaf(large)
    with opened(made.archive(root)) as car:
        assert (read(car), car.size(root)) == ({"": large}, BLOCK_BYTES_MAX)
    refused(header(root) + varint(2**22), "CAR block 1: a length")


def test_more_blocks_than_can_be_remembered_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made()
    root = made.folder({str(number): made.leaf(b"%d" % number) for number in range(5)})
    monkeypatch.setattr(car_file, "BLOCKS_MAX", 6)
    with opened(made.archive(root)) as car:
        assert len(read(car)) == 5
    made.leaf(b"one more")
    refused(made.archive(root), "CAR block 7: more than 6 blocks")


MADE = Made()
ROOT = MADE.folder({"a": MADE.leaf(b"leaf")})
WHOLE = MADE.archive(ROOT)
FOREIGN = b"\x01\x55\x13\x40" + bytes(64)


@pytest.mark.parametrize(("data", "said"), [
    (b"", "CAR header: the archive ends"),
    (WHOLE[:-1], "CAR block 2: the archive ends"),
    (WHOLE[:-1] + b"x", "CAR block 2: the bytes do not hash to bafk"),
    (header(ROOT, version=2), "version 2"),
    (b"\x0b\xa1\x67version\x02" + bytes(20), "version 2"),
    (varint(1) + b"\xff", "CAR header: "),
    (varint(3) + b"\xd8\x2a\x40", "tag 42 does not hold"),
    (header(ROOT) + varint(len(FOREIGN)) + FOREIGN, "CAR block 1: .*hash 0x13"),
    (header(ROOT) + varint(2) + b"\x01\x55", "CAR block 1: a CID that ends"),
])  # fmt: skip
def test_what_is_wrong_is_named(data: bytes, said: str) -> None:
    refused(data, said)


def test_a_file_that_changes_after_it_was_checked_is_found_out() -> None:
    source = io.BytesIO(WHOLE)
    car = CarFile(source, Path("archive.car"))
    car.scan(lambda _size: None)
    leaf = IpfsCid(1, IpfsCodec.RAW, HashFunction.SHA2_256, Made().leaf(b"leaf").digest)
    assert car.get(leaf) == b"leaf"
    source.seek(WHOLE.index(b"leaf"))
    source.write(b"soil")
    with pytest.raises(UsageError, match=r"archive\.car was changed"):
        car.get(leaf)
    source.truncate(len(WHOLE) - 10)
    with pytest.raises(UsageError, match="was changed"):
        car.get(leaf)


class Broken(io.BytesIO):
    """A disk that gives nothing."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(UsageError, match=r"cannot read archive\.car: .*Input/output error"):
        CarFile(Broken(WHOLE), Path("archive.car")).scan(lambda _size: None)


def test_roots_are_found_in_a_beginning_and_nothing_else_is_judged() -> None:
    assert roots_at(WHOLE[: len(header(ROOT)) + 3]) == (ROOT,)
    for data in (b"", WHOLE[:20], b"\xff" * 30, header(ROOT, version=2), bytes(MIB)):
        assert roots_at(data) == ()
