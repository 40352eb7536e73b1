"""Content archives (CAR, version 1): blobs in one file, which other IPFS tools read and write. Pure.

Format: ipld.io/specs/transport/car/carv1. A header names the roots, then come sections: the CID and the bytes of a
block, with their length before them. Only what a store here holds is taken: CIDv1, BLAKE3-256, raw or dag-cbor, at most
1 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import cbor2

from agent_world.crypto.hashing import verify_blob
from agent_world.distfs.links import links_in
from agent_world.distfs.unixfs import PbCid, links_of_node
from agent_world.errors import BlobHashMismatch, DecodeError, UsageError
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.limits import BLOB_BYTES_MAX, MIB
from agent_world.wire.protobuf import varint

VERSION: Final = 1
CID_BYTES: Final = 36
HEADER_BYTES_MAX: Final = MIB
"""About 25,000 roots."""
SECTION_BYTES_MAX: Final = BLOB_BYTES_MAX + CID_BYTES
_VARINT_BYTES_MAX: Final = 9
_LINK_TAG: Final = 42
_CODECS: Final = {0x70: "dag-pb", 0x0129: "dag-json"}
_HASHES: Final = {0x12: "sha2-256", 0x13: "sha2-512", 0xB220: "blake2b-256"}


def car_header(roots: Iterable[Cid | PbCid]) -> bytes:
    """The beginning of an archive."""
    # Not by the codec of our records, which knows no dag-pb; the keys are in canonical order as they stand here.
    links = [cbor2.CBORTag(_LINK_TAG, b"\0" + root.to_bytes()) for root in roots]
    data = cbor2.dumps({"roots": links, "version": VERSION})
    return varint(len(data)) + data


def car_section(cid: Cid | PbCid, data: bytes) -> bytes:
    """One block of an archive."""
    name = cid.to_bytes()
    return varint(len(name) + len(data)) + name + data


def blocks_of(roots: Iterable[Cid], get: Callable[[Cid], bytes | None]) -> Iterator[tuple[Cid, bytes | None]]:
    """The roots and all they link to, each once, parents before children, in the order of the links.

    ``get`` gives None for what is not here, below which nothing is found.
    """
    seen: set[Cid] = set()
    stack = list(roots)[::-1]
    while stack:
        cid = stack.pop()
        if cid in seen:
            continue
        seen.add(cid)
        data = get(cid)
        yield cid, data
        if data is not None and cid.codec is not Codec.RAW:
            stack += reversed(_links(cid, data))


def unixfs_blocks(
    root: ContentHash, get: Callable[[ContentHash], bytes | None]
) -> Iterator[tuple[Cid | PbCid, bytes | None]]:
    """As ``blocks_of``, a file as IPFS tools know it: from the root of its UnixFS nodes (``distfs.unixfs``) down."""
    seen: set[ContentHash] = set()
    stack: list[Cid | PbCid] = [PbCid(root)]
    while stack:
        cid = stack.pop()
        if cid.digest in seen:
            continue
        seen.add(cid.digest)
        data = get(cid.digest)
        yield cid, data
        if data is not None and isinstance(cid, PbCid):
            stack += reversed(links_of_node(data))


def _links(cid: Cid, data: bytes) -> list[Cid]:
    try:
        return links_in(cid, data)
    except DecodeError:
        return []  # anybody may call any bytes dag-cbor: those that are not link to nothing


class CarReader:
    """Reads an archive from parts of any size; holds one section. Raises UsageError naming what is wrong, and where."""

    def __init__(self) -> None:
        self.roots: tuple[Cid, ...] = ()
        """Known once the first block is."""
        self.blocks = 0
        self._buffer = bytearray()
        self._has_header = False

    def add(self, part: bytes) -> Iterator[tuple[Cid, bytes]]:
        """The blocks that are complete with ``part``, verified; run the iterator to its end before the next call."""
        self._buffer += part
        while (body := self._next()) is not None:
            if self._has_header:
                self.blocks += 1
                yield self._block(body)
            else:
                self.roots = _roots(body)
                self._has_header = True

    def finish(self) -> None:
        """After the last part."""
        if self._buffer or not self._has_header:
            raise UsageError(f"{self._place()}: the archive ends in the middle")

    def _place(self) -> str:
        return f"CAR block {self.blocks + 1}" if self._has_header else "CAR header"

    def _next(self) -> bytes | None:
        """The next section without its length; None until it is whole."""
        found = _read_varint(self._buffer)
        if found is None:
            if len(self._buffer) >= _VARINT_BYTES_MAX:
                raise UsageError(f"{self._place()}: no length where one belongs; this is no CAR file")
            return None
        size, start = found
        if not 0 < size <= (SECTION_BYTES_MAX if self._has_header else HEADER_BYTES_MAX):
            raise UsageError(f"{self._place()}: a length of {size} bytes; blocks here have at most {BLOB_BYTES_MAX}")
        if len(self._buffer) < start + size:
            return None
        body = bytes(memoryview(self._buffer)[start : start + size])
        del self._buffer[: start + size]
        return body

    def _block(self, body: bytes) -> tuple[Cid, bytes]:
        where = f"CAR block {self.blocks}"
        try:
            cid = Cid.from_bytes(body[:CID_BYTES])
        except DecodeError:
            raise UsageError(f"{where}: {_foreign(body)}") from None
        data = body[CID_BYTES:]
        try:
            return cid, verify_blob(data, cid.digest)
        except BlobHashMismatch as error:
            raise UsageError(f"{where}: {error}") from None


def _read_varint(buffer: bytearray) -> tuple[int, int] | None:
    """Value and size of a varint at the beginning; None if it is not whole."""
    value = 0
    for place, octet in enumerate(buffer[:_VARINT_BYTES_MAX]):
        value |= (octet & 0x7F) << 7 * place
        if octet < 0x80:
            return value, place + 1
    return None


def _roots(header: bytes) -> tuple[Cid, ...]:
    try:
        found = cbor.decode(header, size_max=HEADER_BYTES_MAX)
    except DecodeError as error:
        raise UsageError(f"CAR header: {error}; roots here are CIDv1 with BLAKE3-256, raw or dag-cbor") from None
    if not isinstance(found, dict) or found.keys() != {"roots", "version"} or type(found["version"]) is not int:
        raise UsageError("CAR header: roots and version are expected")
    if found["version"] != VERSION:
        raise UsageError(f"CAR header: version {found['version']}; only {VERSION} is known")
    roots = found["roots"]
    if not isinstance(roots, list) or not all(isinstance(root, Cid) for root in roots):
        raise UsageError("CAR header: roots are a list of links")
    return tuple(root for root in roots if isinstance(root, Cid))


def _foreign(body: bytes) -> str:
    """What a block's CID is, if it is not one of ours."""
    if body[:2] == b"\x12\x20":
        return "a CIDv0 (sha2-256, dag-pb) is not stored here"
    rest = bytearray(body[:CID_BYTES])
    numbers: list[int] = []
    while len(numbers) < 3 and (found := _read_varint(rest)) is not None:
        numbers.append(found[0])
        del rest[: found[1]]
    if len(numbers) < 3 or numbers[0] != 1:
        return "no CID where one belongs"
    codec, hashed = (names.get(number, hex(number)) for names, number in ((_CODECS, numbers[1]), (_HASHES, numbers[2])))
    return f"a CID with codec {codec} and hash {hashed} is not stored here; BLAKE3-256 with raw or dag-cbor is"
