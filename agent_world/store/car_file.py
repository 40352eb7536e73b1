"""An archive (CAR, version 1) as a file whose blocks are read by their CIDs, whatever order they have in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from agent_world.crypto.ipfs_hashes import is_block_of
from agent_world.distfs.car import FOREIGN_CID_BYTES_MAX, CarSection, CarSections, header_roots
from agent_world.distfs.unixfs_node import BLOCK_BYTES_MAX
from agent_world.errors import DecodeError, UsageError
from agent_world.wire.ipfs_cid import IpfsCid
from agent_world.wire.limits import MIB

BLOCKS_MAX: Final = 1 << 19
"""Blocks of one archive; their places take at most 100 MB. In blocks of 256 KiB 128 GiB."""
HEAD_BYTES_MAX: Final = 2 * MIB
"""Read to find the header."""


class CarFile:
    """Satisfies ``unixfs_dag.Blocks``. Raises UsageError for a file that is no archive, cannot be read or changes."""

    def __init__(self, source: BinaryIO, name: Path) -> None:
        """``source`` can be read at any place; it stays the caller's."""
        self._source = source
        self._name = name
        self._places: dict[bytes, tuple[int, int]] = {}
        self.roots: tuple[IpfsCid, ...] = ()
        self.blocks = 0
        """In the archive, each as often as it is there."""

    def scan(self, advanced: Callable[[int], None]) -> None:
        """Read the archive once: compare every block with its CID, note its place. ``advanced`` is told of bytes."""
        sections = CarSections(BLOCK_BYTES_MAX, FOREIGN_CID_BYTES_MAX)
        at = 0
        while part := self._read(at, MIB):
            at += len(part)
            for section in sections.add(part):
                self._take(section)
            advanced(len(part))
        sections.finish()

    def get(self, cid: IpfsCid) -> bytes | None:
        """The block, verified again; None if the archive has none of that hash."""
        place = self._places.get(cid.multihash)
        if place is None:
            return None
        data = self._read(*place)
        if not is_block_of(cid, data):
            raise UsageError(f"{self._name} was changed while it was read: block {cid} is not what it was")
        return data

    def size(self, cid: IpfsCid) -> int | None:
        """Bytes of the block; None as ``get``."""
        place = self._places.get(cid.multihash)
        return None if place is None else place[1]

    def _take(self, section: CarSection) -> None:
        if not section.number:
            self.roots = header_roots(section.body)
            return
        try:
            cid, start = IpfsCid.split(section.body)
        except DecodeError as error:
            raise UsageError(f"{section.place}: {error.detail}") from None
        if not is_block_of(cid, section.body[start:]):
            raise UsageError(f"{section.place}: the bytes do not hash to {cid}")
        self.blocks = section.number
        self._places[cid.multihash] = section.offset + start, len(section.body) - start
        if len(self._places) > BLOCKS_MAX:
            raise UsageError(f"{section.place}: more than {BLOCKS_MAX} blocks in one archive")

    def _read(self, at: int, size: int) -> bytes:
        try:
            self._source.seek(at)
            return self._source.read(size)
        except OSError as error:
            raise UsageError(f"cannot read {self._name}: {error}") from None


def roots_at(head: bytes) -> tuple[IpfsCid, ...]:
    """The roots in the beginning of an archive; none if there is no header, which is for its reader to say."""
    with suppress(UsageError):
        for section in CarSections().add(head):
            return header_roots(section.body)
    return ()
