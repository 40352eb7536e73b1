"""A file as IPFS tools know it: UnixFS nodes in dag-pb over the very chunks of its manifest. Pure.

Formats: ipld.io/specs/codecs/dag-pb and specs.ipfs.tech/unixfs. The layout is what ``ipfs add --cid-version=1
--hash=blake3 --raw-leaves --chunker=size-262144`` makes: balanced, at most 174 links a node, all chunks at one depth.
So equal bytes have the CID there that they have here. Nothing but the manifest is read, and the nodes are one in
5,000 of the file's bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import attrs

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.manifest import STANDARD, Layout, Span, chunks_in
from agent_world.errors import DecodeError
from agent_world.wire.cid import HASH_BYTES, Cid, Codec, ContentHash, base32_text
from agent_world.wire.limits import U64_MAX
from agent_world.wire.protobuf import fields, number, octets

LINKS_MAX: Final = 174
"""Links of one node; source: Kubo's default."""
_FILE: Final = 2
"""Type of a UnixFS node."""
_HEAD: Final = bytes((1, 0x70, 0x1E, HASH_BYTES))
"""CIDv1, dag-pb, BLAKE3-256."""
_RAW_HEAD: Final = bytes((1, Codec.RAW, 0x1E, HASH_BYTES))


@attrs.frozen(slots=True)
class PbCid:
    """Name of a dag-pb node; the store and the records of Agent World know none, see ``Cid``."""

    digest: ContentHash

    def to_bytes(self) -> bytes:
        """Binary CIDv1, 36 bytes."""
        return _HEAD + self.digest

    def __str__(self) -> str:
        """Base32, as in ``bafybe...``."""
        return base32_text(self.to_bytes())


@attrs.frozen(slots=True)
class _Link:
    cid: bytes
    file_bytes: int
    """Of the file, below it."""
    dag_bytes: int
    """Of all blocks below it, itself among them."""


class UnixfsBuilder:
    """Takes a file's chunks in order and gives its nodes, children before parents; holds a node a level."""

    def __init__(self) -> None:
        self._levels: list[list[_Link]] = [[]]

    def add(self, chunk: Span) -> Iterator[tuple[PbCid, bytes]]:
        """The nodes that are complete before ``chunk``; run the iterator to its end before the next call."""
        yield from self._put(0, _Link(chunk.cid.to_bytes(), chunk.size_bytes, chunk.size_bytes))

    def finish(self) -> Iterator[tuple[PbCid, bytes]]:
        """The last nodes; the very last of them is the root. Call once, after every chunk."""
        level = 0
        while level + 1 < len(self._levels):
            yield from self._close(level)
            level += 1
        cid, data, _link = _node(self._levels[level])
        yield cid, data

    def _put(self, level: int, link: _Link) -> Iterator[tuple[PbCid, bytes]]:
        """A full node goes one level up only when there is more, so no level is too many."""
        if len(self._levels[level]) == LINKS_MAX:
            yield from self._close(level)
        self._levels[level].append(link)

    def _close(self, level: int) -> Iterator[tuple[PbCid, bytes]]:
        cid, data, link = _node(self._levels[level])
        yield cid, data
        self._levels[level] = []
        if level + 1 == len(self._levels):
            self._levels.append([])
        yield from self._put(level + 1, link)


def unixfs_nodes(cid: Cid, get: Callable[[Cid], bytes], *, layout: Layout = STANDARD) -> Iterator[tuple[PbCid, bytes]]:
    """The nodes of the file whose manifest is ``cid``, the root last.

    Raises DecodeError (L4 to L6) if it is none, and whatever ``get`` raises for a node of the manifest.
    """
    builder = UnixfsBuilder()
    for chunk in chunks_in(cid, get, 0, U64_MAX, layout=layout):
        yield from builder.add(chunk)
    yield from builder.finish()


def links_of_node(data: bytes) -> list[Cid | PbCid]:
    """Children of a dag-pb node of a file; raises DecodeError (X5) for bytes that are none, or of other hashes."""
    found: list[Cid | PbCid] = []
    for field, value in fields(data, "X5"):
        if field != 2:
            continue
        if isinstance(value, int):
            raise DecodeError("X5", "a link that is a number")
        name = next((part for inner, part in fields(value, "X5") if inner == 1), b"")
        if not isinstance(name, bytes) or len(name) != len(_HEAD) + HASH_BYTES:
            raise DecodeError("X5", "a link without a CID of ours")
        found.append(_child(name))
    return found


def _child(name: bytes) -> Cid | PbCid:
    if name.startswith(_HEAD):
        return PbCid(ContentHash(name[len(_HEAD) :]))
    # [REJECT] X5: children are raw or dag-pb, named by BLAKE3-256.
    if not name.startswith(_RAW_HEAD):
        raise DecodeError("X5", "a link to a block that is neither raw nor dag-pb, or has another hash")
    return Cid(Codec.RAW, ContentHash(name[len(_RAW_HEAD) :]))


def _node(links: list[_Link]) -> tuple[PbCid, bytes, _Link]:
    file_bytes = sum(link.file_bytes for link in links)
    body = number(1, _FILE) + number(3, file_bytes) + b"".join(number(4, link.file_bytes) for link in links)
    # As dag-pb orders them: links first, then the data; the name of a part of a file is empty, and is written.
    data = b"".join(
        octets(2, octets(1, link.cid) + octets(2, b"") + number(3, link.dag_bytes)) for link in links
    ) + octets(1, body)
    cid = PbCid(content_hash(data))
    return cid, data, _Link(cid.to_bytes(), file_bytes, len(data) + sum(link.dag_bytes for link in links))


def ipfs_name(cid: Cid, root: ContentHash | None) -> str | None:
    """Under which CID IPFS tools read content as a file; ``root`` is that of its UnixFS nodes, if it has some."""
    if cid.codec is Codec.RAW:
        return str(cid)  # one raw block is a file of its bytes already
    return None if root is None else str(PbCid(root))
