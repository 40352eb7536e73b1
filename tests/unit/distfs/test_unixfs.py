"""Files as IPFS tools know them: the CIDs that another implementation gives for the same bytes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from libp2p.bitswap.pb.dag_pb_pb2 import PBNode
from libp2p.bitswap.pb.unixfs_pb2 import Data

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.distfs.manifest import STANDARD, Layout, ManifestBuilder
from agent_world.distfs.unixfs import LINKS_MAX, PbCid, ipfs_name, links_of_node, unixfs_nodes
from agent_world.errors import DecodeError
from agent_world.testing.vectors_bitswap import chunks_of, unixfs_of
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.limits import CHUNK_BYTES

FROM_ELSEWHERE = [
    (2, 4, 4, "bafyb4ih57wfiprkgiygulehjf3q4mt24sv42efskbmn4ajzh5w35rcg7uu", 1),
    (3, 4, 1, "bafyb4ih34gat4sclyasekdhhp7iinvi4kiz6gq3xigsps4gg45iywmkyje", 1),
    (174, 4, 4, "bafyb4iftj6dhgmm3aydxexawt7crn7dk3de7feiobr5c6cp4jhasn7fndy", 1),
    (175, 4, 4, "bafyb4ifnqdk55x7nwhvwrekjcwguo4f6x6zhsruw5wrkhhrgiwpbhcmnia", 3),
    (175, 4, 2, "bafyb4igouhfrqg5kqdifltebnnc6kko7boh3ytzrcurxtyxgqegz34lk2i", 3),
    (348, 4, 4, "bafyb4ifcyy5nn36dxnjzh5aa6ubijtwbbbpuf36tqwdwr6l3gs4bwvsbxe", 3),
    (349, 4, 4, "bafyb4iafqmwkvezqlsr4rgvhpakozx5wqw4bjphyhu4v5nqtl4ulo6a6pi", 4),
    (30276, 4, 4, "bafyb4ibcxctjs55grjhxoisl4w5lds25oydqy3qirlpgnjnkhyx3auy3tu", 175),
    (30277, 4, 3, "bafyb4ia2hapx2l2hdwaeknovsm2p7k4m6sw2ltwapjvxw37mw5byiug564", 178),
    (30451, 4, 4, "bafyb4iceuolrj3uon7y64dlzvogyglbydx2njm7hiju4mi6ne7nxxlpeum", 179),
    (5, CHUNK_BYTES, 1000, "bafyb4icxdlgbmymxq73pqmops5dgfras4jit57qsvsawwj7tlpsklpumc4", 1),
    (40, CHUNK_BYTES, CHUNK_BYTES, "bafyb4ifj2u3auljfm2t5324v5ikhdpj7gzvcbsdw4xcex7w7jc4qg3rg6e", 1),
]
"""Chunks, size of one and of the last, root, number of nodes: what ipfs-unixfs-importer 17.1.1 gave, with raw leaves,
fixed chunks, the balanced layout of 174 links and BLAKE3."""


@pytest.mark.parametrize(("count", "chunk_bytes", "last_bytes", "root", "nodes"), FROM_ELSEWHERE)
def test_the_root_is_that_of_another_implementation(
    count: int, chunk_bytes: int, last_bytes: int, root: str, nodes: int
) -> None:
    made = unixfs_of(chunks_of(count, chunk_bytes, last_bytes))
    assert (str(made[-1][0]), len(made)) == (root, nodes)
    assert all(content_hash(data) == cid.digest for cid, data in made)


def file_of(data: bytes, layout: Layout) -> tuple[Cid, dict[Cid, bytes]]:
    builder = ManifestBuilder(layout)
    blobs = dict([*builder.add(data), *builder.finish()])
    return list(blobs)[-1], blobs


def read(root: PbCid, nodes: dict[PbCid, bytes], blobs: dict[Cid, bytes]) -> Iterator[bytes]:
    """As a tool of IPFS reads a file, with its own decoders."""
    node = PBNode.FromString(nodes[root])
    shape = Data.FromString(node.Data)
    assert (shape.Type, shape.filesize, len(node.Links)) == (2, sum(shape.blocksizes), len(shape.blocksizes))
    assert 0 < len(node.Links) <= LINKS_MAX
    for link, size, child in zip(node.Links, shape.blocksizes, links_of_node(nodes[root]), strict=True):
        assert (link.Hash, link.Name) == (child.to_bytes(), "")
        parts = [blobs[child]] if isinstance(child, Cid) else list(read(child, nodes, blobs))
        assert len(b"".join(parts)) == size
        yield from parts


@pytest.mark.parametrize("size", [4, 5, 8, 4 * 173, 4 * 174, 4 * 174 + 1, 4 * 175, 4 * 174 * 174 + 9])
@pytest.mark.parametrize("links_max", [3, 4096])
def test_a_file_is_read_back_whatever_its_manifest_looks_like(size: int, links_max: int) -> None:
    data = b"".join(place.to_bytes(4, "big") for place in range(size // 4 + 1))[:size]
    cid, blobs = file_of(data, Layout(4, links_max))
    made = dict(unixfs_nodes(cid, blobs.__getitem__, layout=Layout(4, links_max)))
    assert b"".join(read(list(made)[-1], made, blobs)) == data


def test_the_size_of_a_link_counts_all_blocks_below() -> None:
    nodes = dict(unixfs_of(chunks_of(175, 4, 4)))
    (first, _), (second, _), (_, root) = nodes.items()
    sizes = [link.Tsize for link in PBNode.FromString(root).Links]
    assert sizes == [len(nodes[first]) + 174 * 4, len(nodes[second]) + 4]


def test_what_is_no_manifest_has_no_nodes() -> None:
    with pytest.raises(DecodeError):
        list(unixfs_nodes(cid_of(b"\xa0"), lambda _cid: b"\xa0", layout=STANDARD))


def test_names() -> None:
    raw, record = cid_of(b"x", Codec.RAW), cid_of(b"x")
    assert ipfs_name(raw, None) == str(raw)
    assert ipfs_name(record, None) is None
    assert ipfs_name(record, raw.digest) == str(PbCid(raw.digest)) != str(record)
    assert str(PbCid(raw.digest)).startswith("bafyb4i")
