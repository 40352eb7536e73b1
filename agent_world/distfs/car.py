"""Content archives (CAR, version 1): blobs in one file, which other IPFS tools read and write. Pure.

Format: ipld.io/specs/transport/car/carv1. A header names the roots, then come sections: the CID and the bytes of a
block, with their length before them. Only what a store here holds is taken: CIDv1, BLAKE3-256, raw or dag-cbor, at most
1 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import attrs
import cbor2

from agent_world.crypto.hashing import verify_blob
from agent_world.distfs.links import links_in
from agent_world.distfs.unixfs import PbCid, links_of_node
from agent_world.errors import BlobHashMismatch, DecodeError, UsageError
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ipfs_cid import IDENTITY_BYTES_MAX, IpfsCid
from agent_world.wire.limits import BLOB_BYTES_MAX, MIB
from agent_world.wire.protobuf import varint

R = TypeVar("R")
VERSION: Final = 1
CID_BYTES: Final = 36
HEADER_BYTES_MAX: Final = MIB
"""About 25,000 roots."""
FOREIGN_CID_BYTES_MAX: Final = 4 + IDENTITY_BYTES_MAX + 1
"""The longest CID that is read: one whose digest is a small block itself."""
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


@attrs.frozen(slots=True)
class CarSection:
    """The header, with the number 0, or a block with its CID."""

    number: int
    offset: int
    """In the archive, of its first byte behind its length."""
    body: bytes

    @property
    def place(self) -> str:
        """For people."""
        return f"CAR block {self.number}" if self.number else "CAR header"


class CarSections:
    """Cuts an archive, which comes in parts of any size, into its sections; holds one.

    Raises UsageError naming what is wrong, and where. What is in a section is not looked at.
    """

    def __init__(self, block_bytes_max: int = BLOB_BYTES_MAX, cid_bytes_max: int = CID_BYTES) -> None:
        self.sections = 0
        self._section_bytes_max = block_bytes_max + cid_bytes_max
        self._block_bytes_max = block_bytes_max
        self._buffer = bytearray()
        self._offset = 0

    def add(self, part: bytes) -> Iterator[CarSection]:
        """The sections that are complete with ``part``; run the iterator to its end before the next call."""
        self._buffer += part
        while (found := self._next()) is not None:
            yield found

    def finish(self) -> None:
        """After the last part."""
        if self._buffer or not self.sections:
            raise UsageError(f"{self._place()}: the archive ends in the middle")

    def _place(self) -> str:
        return f"CAR block {self.sections}" if self.sections else "CAR header"

    def _next(self) -> CarSection | None:
        """The next section; None until it is whole."""
        found = _read_varint(self._buffer)
        if found is None:
            if len(self._buffer) >= _VARINT_BYTES_MAX:
                raise UsageError(f"{self._place()}: no length where one belongs; this is no CAR file")
            return None
        size, start = found
        if not 0 < size <= (self._section_bytes_max if self.sections else HEADER_BYTES_MAX):
            raise UsageError(
                f"{self._place()}: a length of {size} bytes; blocks here have at most {self._block_bytes_max}"
            )
        if len(self._buffer) < start + size:
            return None
        body = bytes(memoryview(self._buffer)[start : start + size])
        del self._buffer[: start + size]
        section = CarSection(self.sections, self._offset + start, body)
        self._offset += start + size
        self.sections += 1
        return section


class CarReader:
    """Reads an archive from parts of any size; holds one section. Raises UsageError naming what is wrong, and where."""

    def __init__(self) -> None:
        self.roots: tuple[Cid, ...] = ()
        """Known once the first block is."""
        self.blocks = 0
        self._sections = CarSections()

    def add(self, part: bytes) -> Iterator[tuple[Cid, bytes]]:
        """The blocks that are complete with ``part``, verified; run the iterator to its end before the next call."""
        for section in self._sections.add(part):
            if section.number:
                self.blocks = section.number
                yield _block(section)
            else:
                self.roots = _roots(section.body)

    def finish(self) -> None:
        """After the last part."""
        self._sections.finish()


def _block(section: CarSection) -> tuple[Cid, bytes]:
    try:
        cid = Cid.from_bytes(section.body[:CID_BYTES])
    except DecodeError:
        raise UsageError(f"{section.place}: {_foreign(section.body)}") from None
    data = section.body[CID_BYTES:]
    try:
        return cid, verify_blob(data, cid.digest)
    except BlobHashMismatch as error:
        raise UsageError(f"{section.place}: {error}") from None


def header_roots(header: bytes) -> tuple[IpfsCid, ...]:
    """The roots of an archive that others have made, from its header; raises UsageError."""
    try:
        found = cbor.decode_foreign(header, size_max=HEADER_BYTES_MAX, link=IpfsCid.from_bytes)
    except DecodeError as error:
        raise UsageError(f"CAR header: {error}") from None
    return tuple(_roots_in(found, IpfsCid))


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
    return tuple(_roots_in(found, Cid))


def _roots_in(found: object, kind: type[R]) -> Iterator[R]:
    if isinstance(found, dict) and type(found.get("version")) is int and found["version"] != VERSION:
        raise UsageError(f"CAR header: version {found['version']}; only {VERSION} is known")
    if not isinstance(found, dict) or found.keys() != {"roots", "version"} or type(found["version"]) is not int:
        raise UsageError("CAR header: roots and version are expected")
    roots = found["roots"]
    if not isinstance(roots, list):
        raise UsageError("CAR header: roots are a list of links")
    for root in roots:
        if not isinstance(root, kind):
            raise UsageError("CAR header: roots are a list of links")
        yield root


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
