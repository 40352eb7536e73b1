"""Whatever bytes an archive of another tool has: files as they were measured, or a typed error; never else."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutated

from agent_world.distfs.unixfs_dag import UnixfsDag
from agent_world.distfs.unixfs_node import BLOCK_BYTES_MAX, NodeKind, open_unixfs_node
from agent_world.errors import DecodeError, UsageError
from agent_world.store.car_file import CarFile
from agent_world.testing.unixfs_made import Made, message, node
from agent_world.wire.ipfs_cid import HashFunction, IpfsCid, IpfsCodec
from agent_world.wire.protobuf import number, octets

FUZZ = settings(deadline=None, max_examples=500, suppress_health_check=list(HealthCheck))
ANY = IpfsCid(1, IpfsCodec.DAG_PB, HashFunction.SHA2_256, bytes(32))
DECODE_S_MAX = 3.0
"""For a block of 2 MiB of the worst bytes known here; they take about 0.2 s."""
MADE = Made()
LEAF = MADE.leaf(b"leaf")
FILE = MADE.file([(LEAF, 4), (MADE.file([], b"abc"), 3)], b"!")
ROOT = MADE.folder(
    {"file": FILE, "folder": MADE.folder({"link": MADE.symlink(b"x")}), "s": MADE.shard([(LEAF, b"00a")])}
)
WHOLE = MADE.archive(ROOT)
NODES = [block for block in MADE.values() if block[:1] in (b"\x0a", b"\x12")]


T = TypeVar("T")


def outcome(read: Callable[[], T]) -> T | None:
    """What was read; None for bytes that were refused in the right way."""
    try:
        return read()
    except (DecodeError, UsageError) as error:
        refused = error
    assert len(str(refused)) < 600, "an error must not echo what was read at length"
    return None


@FUZZ
@given(st.binary(max_size=200) | mutated([LEAF.to_bytes(), IpfsCid(0, ANY.codec, ANY.function, ANY.digest).to_bytes()]))
def test_a_cid_is_read_or_refused(data: bytes) -> None:
    found = outcome(lambda: IpfsCid.split(data))
    if found is not None:
        cid, size = found
        assert cid.to_bytes() == data[:size]


@FUZZ
@given(st.binary(max_size=200) | mutated(NODES))
def test_a_node_is_read_or_refused(data: bytes) -> None:
    found = outcome(lambda: open_unixfs_node(ANY, data))
    if found is not None:
        assert all("/" not in link.name and link.name not in (".", "..") for link in found.links)


def contents(data: bytes) -> None:
    """Read all of an archive."""
    car = CarFile(io.BytesIO(data), Path("archive.car"))
    car.scan(lambda _size: None)
    dag = UnixfsDag(car)
    for root in car.roots:
        dag.measure(root)
        for entry in dag.entries(root):
            if not entry.left_out:
                assert sum(map(len, dag.parts(entry.cid))) == entry.size_bytes


@FUZZ
@given(st.binary(max_size=300) | mutated([WHOLE]))
def test_an_archive_is_read_or_refused(data: bytes) -> None:
    outcome(lambda: contents(data))


@FUZZ
@given(mutated(NODES), mutated(NODES))
def test_an_archive_of_any_nodes_under_their_right_names_is_read_or_refused(one: bytes, other: bytes) -> None:
    """Mutations of an archive seldom get past the hashes; these do."""
    made = Made()
    made.update(MADE)
    root = made.folder({"a": made.block(one), "b": made.block(other), "c": made.leaf(one)})
    data = made.archive(root, made.block(one))
    outcome(lambda: contents(data))


@pytest.mark.parametrize("block", [
    octets(1, number(1, 2) + number(4, 0) * (BLOCK_BYTES_MAX // 2 - 20)),
    octets(1, number(1, 2) + number(9, 0) * (BLOCK_BYTES_MAX // 2 - 20)),
    octets(1, number(1, 2)) + octets(2, b"") * (BLOCK_BYTES_MAX // 2 - 20),
    node([(IpfsCid(1, IpfsCodec.RAW, HashFunction.IDENTITY, b""), b"%d" % place) for place in range(30_000)],
         message(NodeKind.DIRECTORY)),
    b"\x08\x00" * (BLOCK_BYTES_MAX // 2),
    octets(2, octets(2, b"") * (BLOCK_BYTES_MAX // 2 - 20)),
], ids=["sizes", "unknown fields", "links", "names", "numbers", "one link"])  # fmt: skip
def test_the_worst_nodes_of_the_largest_size_take_no_longer_than_a_moment(block: bytes) -> None:
    started = time.perf_counter()
    outcome(lambda: open_unixfs_node(ANY, block))
    assert time.perf_counter() - started < DECODE_S_MAX
