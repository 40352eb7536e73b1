"""Nodes and archives as another IPFS tool makes them, or as none would; for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.unixfs_node import NodeKind
from agent_world.wire.ipfs_cid import HashFunction, IpfsCid, IpfsCodec
from agent_world.wire.protobuf import number, octets, varint

Child = tuple[IpfsCid, bytes]
"""A link with its name."""


class Made(dict[bytes, bytes]):
    """Blocks by their multihashes; satisfies ``unixfs_dag.Blocks``."""

    def __init__(self, function: HashFunction = HashFunction.SHA2_256) -> None:
        super().__init__()
        self.function = function

    def get(self, cid: IpfsCid) -> bytes | None:  # type: ignore[override]
        """The block, or None."""
        return super().get(cid.multihash)

    def size(self, cid: IpfsCid) -> int | None:
        """Its bytes."""
        block = self.get(cid)
        return None if block is None else len(block)

    def block(self, data: bytes, codec: IpfsCodec = IpfsCodec.DAG_PB) -> IpfsCid:
        """Keep a block, named with this one's function."""
        digest = {
            HashFunction.IDENTITY: data,
            HashFunction.SHA2_256: hashlib.sha256(data).digest(),
            HashFunction.BLAKE3: content_hash(data),
        }[self.function]
        cid = IpfsCid(1, codec, self.function, digest)
        self[cid.multihash] = data
        return cid

    def leaf(self, data: bytes) -> IpfsCid:
        """A raw block."""
        return self.block(data, IpfsCodec.RAW)

    def file(self, parts: Sequence[tuple[IpfsCid, int]], data: bytes = b"", kind: int = NodeKind.FILE) -> IpfsCid:
        """A file of parts with their stated sizes, and of bytes of its own before them."""
        sizes = [size for _, size in parts]
        return self.block(node([(cid, b"") for cid, _ in parts], message(kind, data, len(data) + sum(sizes), sizes)))

    def folder(self, entries: dict[str, IpfsCid]) -> IpfsCid:
        """A directory in one node."""
        children = [(cid, name.encode()) for name, cid in entries.items()]
        return self.block(node(children, message(NodeKind.DIRECTORY)))

    def shard(self, children: Iterable[Child], fanout: int = 256) -> IpfsCid:
        """A part of a sharded directory; the names begin with their buckets."""
        return self.block(node(children, message(NodeKind.SHARD) + number(5, 0x22) + number(6, fanout)))

    def symlink(self, target: bytes) -> IpfsCid:
        """A symbolic link."""
        return self.block(node([], message(NodeKind.SYMLINK, target)))

    def archive(self, *roots: IpfsCid) -> bytes:
        """All blocks as a CAR."""
        sections = [
            varint(len(key) + 2 + len(block)) + b"\x01\x55" + key + block for key, block in self.items()
        ]  # found by their multihashes, so the codec in a section does not matter
        return header(*roots) + b"".join(sections)


def message(kind: int, data: bytes | None = None, size: int | None = None, sizes: Sequence[int] = ()) -> bytes:
    """A UnixFS message."""
    given = b"" if data is None else octets(2, data)
    total = b"" if size is None else number(3, size)
    return number(1, kind) + given + total + b"".join(number(4, part) for part in sizes)


def node(children: Iterable[Child], body: bytes) -> bytes:
    """A dag-pb node."""
    links = (octets(1, cid.to_bytes()) + octets(2, name) + number(3, 7) for cid, name in children)
    return b"".join(octets(2, link) for link in links) + octets(1, body)


def header(*roots: IpfsCid, version: int = 1) -> bytes:
    """The header of a CAR."""
    names = b"".join(b"\xd8\x2a\x58" + bytes([len(root.to_bytes()) + 1]) + b"\0" + root.to_bytes() for root in roots)
    data = b"\xa2\x65roots" + bytes([0x80 + len(roots)]) + names + b"\x67version" + bytes([version])
    return varint(len(data)) + data
