"""Nodes of other IPFS tools: what they are, and what is none."""

from __future__ import annotations

import pytest

from agent_world.distfs.unixfs_node import FIELDS_MAX, LINKS_MAX, NodeKind, open_unixfs_node
from agent_world.errors import DecodeError
from agent_world.testing.unixfs_made import Made, message, node
from agent_world.wire.ipfs_cid import HashFunction, IpfsCid, IpfsCodec
from agent_world.wire.protobuf import number, octets

MADE = Made()
LEAF = MADE.leaf(b"leaf")
ANY = IpfsCid(1, IpfsCodec.DAG_PB, HashFunction.SHA2_256, bytes(32))


def opened(block: bytes) -> tuple[NodeKind, bytes, list[tuple[IpfsCid, str, int]]]:
    found = open_unixfs_node(ANY, block)
    return found.kind, found.data, [(link.cid, link.name, link.size_bytes) for link in found.links]


def test_a_raw_block_is_a_file() -> None:
    found = open_unixfs_node(LEAF, b"leaf")
    assert (found.kind, found.data, found.size_bytes, found.is_file) == (NodeKind.FILE, b"leaf", 4, True)


def test_a_file_of_parts_with_bytes_before_them() -> None:
    block = node([(LEAF, b""), (LEAF, b"")], message(NodeKind.FILE, b"ab", 10, [4, 4]))
    assert opened(block) == (NodeKind.FILE, b"ab", [(LEAF, "", 4), (LEAF, "", 4)])
    assert open_unixfs_node(ANY, block).size_bytes == 10


def test_a_leaf_of_either_kind_and_one_that_states_no_size() -> None:
    for kind in (NodeKind.FILE, NodeKind.RAW):
        assert opened(node([], message(kind, b"abc", 3))) == (kind, b"abc", [])
    assert opened(node([], message(NodeKind.FILE))) == (NodeKind.FILE, b"", [])


def test_data_before_links_as_old_tools_wrote_it() -> None:
    link = octets(2, octets(1, LEAF.to_bytes()) + octets(2, b"a"))
    assert opened(octets(1, message(NodeKind.DIRECTORY)) + link)[2] == [(LEAF, "a", 0)]


def test_a_directory_and_a_symbolic_link_with_mode_and_time() -> None:
    more = number(7, 0o755) + octets(8, number(1, 5) + b"\x15\x01\x00\x00\x00")
    entries = [(LEAF, "ä b".encode()), (ANY, b"c")]
    assert opened(node(entries, message(NodeKind.DIRECTORY) + more))[2] == [(LEAF, "ä b", 0), (ANY, "c", 0)]
    assert opened(node([], message(NodeKind.SYMLINK, b"../x") + more)) == (NodeKind.SYMLINK, b"../x", [])


@pytest.mark.parametrize(("fanout", "width"), [(8, 1), (16, 1), (256, 2), (1024, 3)])
def test_a_shard_says_how_long_its_buckets_are(fanout: int, width: int) -> None:
    block = node([(LEAF, b"0" * width + b"a"), (LEAF, b"F" * width)], message(NodeKind.SHARD) + number(6, fanout))
    found = open_unixfs_node(ANY, block)
    assert (found.bucket_chars, [link.name for link in found.links]) == (width, ["0" * width + "a", "F" * width])


def test_links_up_to_the_limit() -> None:
    block = node([(LEAF, b"%d" % place) for place in range(LINKS_MAX)], message(NodeKind.DIRECTORY))
    assert len(opened(block)[2]) == LINKS_MAX
    with pytest.raises(DecodeError, match=f"more than {LINKS_MAX} links"):
        opened(node([(LEAF, b"one more")], b"")[:-2] + block)
    file = node([(LEAF, b"")] * LINKS_MAX, message(NodeKind.FILE, b"", 4 * LINKS_MAX, [4] * LINKS_MAX))
    assert len(opened(file)[2]) == LINKS_MAX
    with pytest.raises(DecodeError, match=f"more than {FIELDS_MAX} fields"):
        opened(node([], message(NodeKind.FILE, b"", 0, [0] * FIELDS_MAX)))


def folder(*names: bytes) -> bytes:
    return node([(LEAF, name) for name in names], message(NodeKind.DIRECTORY))


def shard(fanout: int, *names: bytes) -> bytes:
    return node([(LEAF, name) for name in names], message(NodeKind.SHARD) + number(6, fanout))


@pytest.mark.parametrize(("block", "said"), [
    (b"", "without data"),
    (octets(1, b""), "type None"),
    (octets(1, number(1, 6)), "type 6"),
    (octets(1, number(1, 2)) * 2, "field 1 has no place"),
    (number(1, 2), "a number where bytes"),
    (octets(3, b"") + octets(1, number(1, 2)), "field 3 has no place"),
    (octets(1, octets(1, b"")), "bytes where a number"),
    (octets(2, b"") + octets(1, number(1, 2)), "leads nowhere"),
    (octets(2, octets(1, b"x")) + octets(1, number(1, 2)), "CID"),
    (octets(2, octets(1, LEAF.to_bytes() + b"x")) + octets(1, number(1, 2)), "1 bytes behind"),
    (octets(2, octets(1, LEAF.to_bytes()) + octets(5, b"")), "field 5 has no place in a link"),
    (octets(2, octets(1, LEAF.to_bytes()) + octets(2, b"a") * 2), "field 2 has no place in a link"),
    (b"\x0a\x05\x08", "field of 5 bytes"),
    (node([(LEAF, b"")], message(NodeKind.FILE, b"", 4, [4, 4])), "1 parts of a file, and 2 sizes"),
    (node([(LEAF, b"")], message(NodeKind.FILE, b"", 4)), "1 parts of a file, and 0 sizes"),
    (node([(LEAF, b"")], message(NodeKind.FILE, b"", 5, [4])), "a file of 5 bytes whose parts have 4"),
    (node([], message(NodeKind.FILE, b"abc")), "a file of 0 bytes whose parts have 3"),
    (node([(LEAF, b"a")], message(NodeKind.FILE, b"", 4, [4])), "has a name"),
    (node([(LEAF, b"")], message(NodeKind.RAW, b"", 4, [4])), "a raw node with links"),
    (node([(LEAF, b"a")], message(NodeKind.SYMLINK, b"x")), "a symbolic link with links"),
    (node([], message(NodeKind.METADATA)), "metadata"),
    (folder(b"a", b"a"), "two entries of one name"),
    (folder(b""), "called ''"),
    (folder(b"."), "called"),
    (folder(b".."), "called"),
    (folder(b"a/b"), "called"),
    (folder(b"\xff"), "not UTF-8"),
    (folder(b"x" * 256), "a name of 256 bytes"),
    (shard(256, b"00" + b"x" * 256), "a name of 258 bytes"),
    (folder(b"a\0b"), "control character"),
    (folder(b"\x1b[2J"), "control character"),
    (folder("\x9b".encode()), "control character"),
    (shard(0, b"00a"), "0 buckets"),
    (shard(100, b"00a"), "100 buckets"),
    (shard(2048, b"000a"), "2048 buckets"),
    (shard(2**63, b"000a"), "buckets"),
    (shard(256, b"0"), "without its bucket"),
    (shard(256, b"ffa"), "without its bucket"),
    (shard(256, b"GGa"), "without its bucket"),
    (shard(256, b"00.."), "called"),
    (shard(256, b"00a/b"), "called"),
    (shard(256, b"00a", b"00a"), "two entries"),
])  # fmt: skip
def test_what_is_none_is_refused(block: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=said) as caught:
        opened(block)
    assert len(str(caught.value)) < 200


def test_a_name_up_to_the_limit() -> None:
    assert len(opened(folder(b"x" * 255))[2][0][1]) == 255
    assert len(opened(shard(256, b"00" + b"x" * 255))[2][0][1]) == 257


def test_another_codec_is_no_part_of_a_file() -> None:
    with pytest.raises(DecodeError, match="DAG_CBOR"):
        open_unixfs_node(IpfsCid(1, IpfsCodec.DAG_CBOR, HashFunction.BLAKE3, bytes(32)), b"\xa0")
