"""Files and directories of another IPFS tool, read from blocks that can be had in any order. Pure.

A few blocks can be a tree of any size, since a link may lead to the same block again and again. So the whole tree is
measured first, each block once however often it is linked; then what is read is known, and within bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import attrs

from agent_world.distfs.paths import PATH_BYTES_MAX
from agent_world.distfs.unixfs_node import NodeKind, NodeLink, UnixfsNode, open_unixfs_node
from agent_world.errors import DecodeError, UsageError
from agent_world.wire.ipfs_cid import HashFunction, IpfsCid, IpfsCodec
from agent_world.wire.limits import MIB

DEPTH_MAX: Final = 64
"""Nodes from a root down to a leaf, those of directories and of a file together."""
FILES_MAX: Final = 100_000
"""Entries below one root: files, directories and what is left out."""
NODES_MAX: Final = 1 << 24
"""Nodes below one root, each counted as often as it is linked: 4 TiB in parts of 256 KiB."""
BYTES_MAX: Final = 1024 * 1024 * MIB
"""Of all files below one root, each counted as often as it is linked."""


class Blocks(Protocol):
    """Where blocks come from; those that a CID holds itself are not asked for."""

    def get(self, cid: IpfsCid) -> bytes | None:
        """The block, verified; None if it is not there."""
        ...

    def size(self, cid: IpfsCid) -> int | None:
        """Bytes of the block, without reading it; None if it is not there."""
        ...


@attrs.frozen(slots=True)
class DagEntry:
    """A file, or what is left out."""

    path: str
    """From the root's CID on."""
    cid: IpfsCid
    size_bytes: int
    left_out: str = ""
    """Why it is not read; empty for a file."""


@attrs.frozen(slots=True)
class Measure:
    """What a node is, with all that is below it."""

    kind: NodeKind
    size_bytes: int
    """Of the files."""
    entries: int
    nodes: int
    height: int
    bucket_chars: int = 0


class UnixfsDag:
    """Trees over some blocks. Raises UsageError naming the place: a block that is missing, or is not what it should be,
    a tree that is too deep or too large."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._measures: dict[IpfsCid, Measure] = {}

    def measure(self, root: IpfsCid) -> Measure:
        """Check the whole tree below ``root``, but for the bytes of its raw leaves."""
        return self._measured(root, str(root), DEPTH_MAX)

    def entries(self, root: IpfsCid) -> Iterator[DagEntry]:
        """Files and symbolic links below a root, in the order of the directories; nothing before all was measured."""
        seen: set[str] = set()
        for entry in self._entries(root, str(root)):
            if entry.path in seen:  # in one node no name is twice, but a sharded directory has several
                raise UsageError(f"{entry.path}: two entries of one name")
            if len(entry.path.encode()) > len(str(root)) + 1 + PATH_BYTES_MAX:
                raise UsageError(f"{entry.path[:80]}...: a path of more than {PATH_BYTES_MAX} bytes")
            seen.add(entry.path)
            yield entry

    def parts(self, cid: IpfsCid) -> Iterator[bytes]:
        """The bytes of a file of a measured tree, a block at a time."""
        stack = [cid]
        while stack:
            node = self._open(stack.pop(), "a part of a file")
            if node.data:
                yield node.data
            stack += [link.cid for link in reversed(node.links)]

    def _measured(self, cid: IpfsCid, place: str, depth: int) -> Measure:
        known = self._measures.get(cid)
        if known is None and depth:
            known = self._look(cid, place, depth)
            if cid.codec is not IpfsCodec.RAW:  # most blocks are, and are measured at a glance
                self._measures[cid] = known
        if known is None or known.height > depth:
            raise UsageError(f"{place}: more than {DEPTH_MAX} nodes deep")
        return known

    def _look(self, cid: IpfsCid, place: str, depth: int) -> Measure:
        if cid.codec is IpfsCodec.RAW and cid.function is not HashFunction.IDENTITY:
            size = self._blocks.size(cid)
            if size is None:
                raise _missing(cid, place)
            return Measure(NodeKind.FILE, size, 1, 1, 1)
        node = self._open(cid, place)
        size, entries, nodes, height = len(node.data) if node.is_file else 0, 1, 1, 1
        for link in node.links:
            below = self._measured(link.cid, place if node.is_file else f"{place}/{link.name}", depth - 1)
            _check_child(node, link, below, place)
            size, nodes, height = size + below.size_bytes, nodes + below.nodes, max(height, 1 + below.height)
            entries += 0 if node.is_file else below.entries
            if size > BYTES_MAX or entries > FILES_MAX or nodes > NODES_MAX:
                raise UsageError(
                    f"{place}: more than {FILES_MAX} entries, {NODES_MAX} nodes or {BYTES_MAX} bytes below it"
                )
        return Measure(node.kind, size, entries, nodes, height, node.bucket_chars)

    def _entries(self, cid: IpfsCid, path: str) -> Iterator[DagEntry]:
        found = self._measured(cid, path, DEPTH_MAX)
        if found.kind in (NodeKind.FILE, NodeKind.RAW):
            yield DagEntry(path, cid, found.size_bytes)
            return
        if found.kind is NodeKind.SYMLINK:
            yield DagEntry(path, cid, 0, "a symbolic link")
            return
        for link in self._open(cid, path).links:
            name = link.name[found.bucket_chars :]
            yield from self._entries(link.cid, f"{path}/{name}" if name else path)

    def _open(self, cid: IpfsCid, place: str) -> UnixfsNode:
        block = cid.digest if cid.function is HashFunction.IDENTITY else self._blocks.get(cid)
        if block is None:
            raise _missing(cid, place)
        try:
            return open_unixfs_node(cid, block)
        except DecodeError as error:
            raise UsageError(f"{place}: block {cid}: {error.detail}") from None


def _check_child(node: UnixfsNode, link: NodeLink, below: Measure, place: str) -> None:
    """Whether a child is what its parent says."""
    is_file = below.kind in (NodeKind.FILE, NodeKind.RAW)
    if node.is_file:
        if not is_file:
            raise UsageError(f"{place}: block {link.cid} is part of a file, and is a {below.kind.name.lower()}")
        if below.size_bytes != link.size_bytes:
            raise UsageError(
                f"{place}: block {link.cid} has {below.size_bytes} bytes of a file where {link.size_bytes} belong"
            )
    elif node.kind is NodeKind.SHARD and len(link.name) == node.bucket_chars:
        shape = below.kind, below.bucket_chars
        if shape != (node.kind, node.bucket_chars):
            raise UsageError(f"{place}: block {link.cid} should be a shard of the same directory")


def _missing(cid: IpfsCid, place: str) -> UsageError:
    return UsageError(f"{place}: block {cid} is not in the archive")
