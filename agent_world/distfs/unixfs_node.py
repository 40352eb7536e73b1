"""One node of a file or directory that another IPFS tool has made: dag-pb around UnixFS, decoded within bounds. Pure.

Formats: ipld.io/specs/codecs/dag-pb and specs.ipfs.tech/unixfs. What is decoded here agrees with itself: a file states
the size of each part, a directory has each name once. Whether the parts are what is stated shows ``unixfs_dag``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

import attrs

from agent_world.errors import DecodeError
from agent_world.wire.ipfs_cid import IpfsCid, IpfsCodec
from agent_world.wire.protobuf import fields

BLOCK_BYTES_MAX: Final = 2 * 1024 * 1024
"""Of any tool's block; source: what bitswap implementations carry."""
LINKS_MAX: Final = 32_768
"""Of one node: a block of 2 MiB has room for 50,000 links with short names; tools make 174, or 1,024 of a file."""
FIELDS_MAX: Final = LINKS_MAX + 16
"""Of the UnixFS part of a node: a size for each link, and seven that are there once."""
FANOUT_MAX: Final = 1_024
"""Of a sharded directory; source: the specification's limit."""
NAME_BYTES_MAX: Final = 255
"""Of an entry, in UTF-8; source: what file systems take."""
_FORMAT: Final = "UnixFS"
"""Stands in errors where others have a rule of protocols/: the format is not ours."""


class NodeKind(IntEnum):
    """Types of a UnixFS node."""

    RAW = 0
    """A part of a file, as tools made it long ago."""
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    SHARD = 5
    """A part of a directory that is too large for a node."""


@attrs.frozen(slots=True)
class NodeLink:
    """A child."""

    cid: IpfsCid
    name: str
    """Of an entry of a directory, in a shard behind its bucket; empty for a part of a file."""
    size_bytes: int
    """Of a part of a file, as its parent states it; 0 for an entry."""


@attrs.frozen(slots=True)
class UnixfsNode:
    """A node by itself."""

    kind: NodeKind
    data: bytes
    """Of a file what comes before the parts; of a symlink where it leads."""
    links: tuple[NodeLink, ...]
    bucket_chars: int = 0
    """Of a shard: how much of a name is its bucket; a name that has no more leads to a further shard."""

    @property
    def is_file(self) -> bool:
        """Whether it, or part of it, is bytes."""
        return self.kind in (NodeKind.FILE, NodeKind.RAW)

    @property
    def size_bytes(self) -> int:
        """Of a file, as it states them."""
        return len(self.data) + sum(link.size_bytes for link in self.links)


@attrs.define(slots=True)
class _Fields:
    """What stands in a UnixFS message."""

    kind: int | None = None
    data: bytes = b""
    size: int = 0
    parts: list[int] = attrs.Factory(list)
    fanout: int = 0


def open_unixfs_node(cid: IpfsCid, block: bytes) -> UnixfsNode:
    """The node that ``block``, which hashes to ``cid``, is; raises DecodeError if it is none."""
    if cid.codec is IpfsCodec.RAW:
        return UnixfsNode(NodeKind.FILE, block, ())
    if cid.codec is not IpfsCodec.DAG_PB:
        raise DecodeError(_FORMAT, f"a block with codec {cid.codec.name} is no part of a file")
    body, links = _dag_pb(block)
    found = _message(body)
    try:
        kind = NodeKind(-1 if found.kind is None else found.kind)
    except ValueError:
        raise DecodeError(_FORMAT, f"a node of type {found.kind}") from None
    return _CHECKS[kind](kind, found, links)


def _dag_pb(block: bytes) -> tuple[bytes, list[tuple[IpfsCid, bytes]]]:
    """The data of a node, and its links with their names; old tools wrote the data first, so either order is taken."""
    body: bytes | None = None
    links: list[tuple[IpfsCid, bytes]] = []
    for field, value in fields(block, _FORMAT):
        if field == 1 and body is None:
            body = _bytes(value)
        elif field == 2:
            if len(links) == LINKS_MAX:
                raise DecodeError(_FORMAT, f"more than {LINKS_MAX} links in a node")
            links.append(_link(_bytes(value)))
        else:
            raise DecodeError(_FORMAT, f"field {field} has no place in a dag-pb node")
    if body is None:
        raise DecodeError(_FORMAT, "a dag-pb node without data")
    return body, links


def _link(data: bytes) -> tuple[IpfsCid, bytes]:
    found: dict[int, int | bytes] = {}
    for field, value in fields(data, _FORMAT):
        if not 1 <= field <= 3 or field in found:
            raise DecodeError(_FORMAT, f"field {field} has no place in a link")
        found[field] = value
    if 1 not in found:
        raise DecodeError(_FORMAT, "a link that leads nowhere")
    # The third is the size of all blocks below, which nothing may rely upon.
    return IpfsCid.from_bytes(_bytes(found[1])), _bytes(found.get(2, b""))


def _message(body: bytes) -> _Fields:
    found = _Fields()
    for count, (field, value) in enumerate(fields(body, _FORMAT)):
        if count == FIELDS_MAX:
            raise DecodeError(_FORMAT, f"more than {FIELDS_MAX} fields in a node")
        match field:
            case 1:
                found.kind = _int(value)
            case 2:
                found.data = _bytes(value)
            case 3:
                found.size = _int(value)
            case 4:
                found.parts.append(_int(value))
            case 6:
                found.fanout = _int(value)
            case _:
                pass  # hash of the shards, mode and time: kept by nobody here
    return found


def _file(kind: NodeKind, found: _Fields, links: list[tuple[IpfsCid, bytes]]) -> UnixfsNode:
    if len(found.parts) != len(links):
        raise DecodeError(_FORMAT, f"{len(links)} parts of a file, and {len(found.parts)} sizes")
    if any(name for _, name in links):
        raise DecodeError(_FORMAT, "a part of a file has a name")
    if kind is NodeKind.RAW and links:
        raise DecodeError(_FORMAT, "a raw node with links")
    parts = zip(links, found.parts, strict=True)
    node = UnixfsNode(kind, found.data, tuple(NodeLink(cid, "", size) for (cid, _), size in parts))
    if node.size_bytes != found.size:
        raise DecodeError(_FORMAT, f"a file of {found.size} bytes whose parts have {node.size_bytes}")
    return node


def _directory(kind: NodeKind, _found: _Fields, links: list[tuple[IpfsCid, bytes]]) -> UnixfsNode:
    return UnixfsNode(kind, b"", _entries(links, 0))


def _shard(kind: NodeKind, found: _Fields, links: list[tuple[IpfsCid, bytes]]) -> UnixfsNode:
    fanout = found.fanout
    if not 8 <= fanout <= FANOUT_MAX or fanout & (fanout - 1):
        raise DecodeError(_FORMAT, f"a sharded directory with {fanout} buckets")
    width = len(f"{fanout - 1:X}")
    return UnixfsNode(kind, b"", _entries(links, width), width)


def _entries(links: list[tuple[IpfsCid, bytes]], bucket_chars: int) -> tuple[NodeLink, ...]:
    entries = tuple(NodeLink(cid, _name(name, bucket_chars), 0) for cid, name in links)
    if len({entry.name for entry in entries}) != len(entries):
        raise DecodeError(_FORMAT, "a directory with two entries of one name")
    return entries


def _name(raw: bytes, bucket_chars: int) -> str:
    """Of an entry, which must be one segment of a path that anybody can look at."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise DecodeError(_FORMAT, f"a name that is not UTF-8: {raw[:40]!r}") from None
    if len(raw) > NAME_BYTES_MAX + bucket_chars:
        raise DecodeError(_FORMAT, f"a name of {len(raw)} bytes: {name[:40]!r}")
    bucket, rest = name[:bucket_chars], name[bucket_chars:]
    if len(bucket) != bucket_chars or not all(char in "0123456789ABCDEF" for char in bucket):
        raise DecodeError(_FORMAT, f"an entry {name[:40]!r} of a sharded directory without its bucket")
    if rest in (".", "..") or "/" in rest or (not rest and not bucket_chars):
        raise DecodeError(_FORMAT, f"an entry called {rest[:40]!r}")
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in rest):
        raise DecodeError(_FORMAT, f"a name with a control character: {rest[:40]!r}")
    return name


def _symlink(kind: NodeKind, found: _Fields, links: list[tuple[IpfsCid, bytes]]) -> UnixfsNode:
    if links:
        raise DecodeError(_FORMAT, "a symbolic link with links")
    return UnixfsNode(kind, found.data, ())


def _metadata(_kind: NodeKind, _found: _Fields, _links: list[tuple[IpfsCid, bytes]]) -> UnixfsNode:
    raise DecodeError(_FORMAT, "a node of metadata, which no tool reads")


_CHECKS: Final[dict[NodeKind, Callable[[NodeKind, _Fields, list[tuple[IpfsCid, bytes]]], UnixfsNode]]] = {
    NodeKind.RAW: _file,
    NodeKind.DIRECTORY: _directory,
    NodeKind.FILE: _file,
    NodeKind.METADATA: _metadata,
    NodeKind.SYMLINK: _symlink,
    NodeKind.SHARD: _shard,
}


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise DecodeError(_FORMAT, "a number where bytes belong")
    return value


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise DecodeError(_FORMAT, "bytes where a number belongs")
    return value
