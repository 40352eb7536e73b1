"""Archives (CAR) out of a running node's store and into it, block by block."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import trio

from agent_world.distfs.car import CarReader, blocks_of, car_header, car_section, unixfs_blocks
from agent_world.distfs.unixfs import PbCid
from agent_world.errors import BlobHashMismatch, BlobNotFound, ErrorCode, Refused, UsageError
from agent_world.node.pinning import Pinning
from agent_world.node.storing import Aside, in_thread, storing
from agent_world.node.tree_fetch import TreeFetcher
from agent_world.node.unixfs_views import UnixfsViews
from agent_world.store.blobs import LocalCasStore
from agent_world.wire.cid import Cid, Codec, ContentHash

BLOCKS_AT_ONCE: Final = 16
"""Between two chances for other tasks."""


class Archives:
    """Of one node."""

    def __init__(self, blobs: LocalCasStore, trees: TreeFetcher, pinning: Pinning, unixfs: UnixfsViews) -> None:
        self._blobs = blobs
        self._trees = trees
        self._pinning = pinning
        self._unixfs = unixfs
        self.aside: Aside = in_thread
        """How files are written; a simulation sets another."""

    async def prepare(self, cid: Cid, timeout_s: float, *, local_only: bool) -> int:
        """Have all of ``cid`` here before it is exported; how many blocks are missing, 0 unless ``local_only``.

        Raises Refused (ERR_NOT_AVAILABLE) for what nobody gives in time, and for a root that is not here.
        """
        if not local_only:
            brought = await self._trees.bring(cid, timeout_s)
            if not brought.is_whole:
                raise Refused(ErrorCode.NOT_AVAILABLE, f"not all of {cid} could be fetched in time; ask again to go on")
            return 0
        if not self._blobs.has(cid.digest):
            raise Refused(ErrorCode.NOT_FOUND, f"{cid} is not stored here")
        return await self._missing(cid)

    async def _missing(self, cid: Cid) -> int:
        missing = 0
        for number, (_, data) in enumerate(blocks_of([cid], self._get)):
            missing += data is None
            if number % BLOCKS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return missing

    def _get(self, cid: Cid) -> bytes | None:
        try:
            return self._blobs.get(cid.digest)
        except (BlobNotFound, BlobHashMismatch):
            return None  # counted by the store, and as missing by who asks

    async def export(self, cid: Cid, *, local_only: bool = False) -> AsyncIterator[bytes]:
        """The archive of ``cid``, in parts; with ``local_only`` blocks that are not here are left out.

        Else raises Refused (ERR_NOT_AVAILABLE) for one: it has gone since ``prepare``, and an archive that lacks it is
        no copy of the content.
        """
        yield car_header([cid])
        for number, block in enumerate(blocks_of([cid], self._get)):
            if section := _section(*block, local_only=local_only):
                yield section
            if number % BLOCKS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    async def unixfs_root(self, cid: Cid) -> ContentHash:
        """Under what ``export_unixfs`` gives a file that is here; raises UsageError for content that has no UnixFS."""
        root = None if cid.codec is Codec.RAW else await self._unixfs.root(cid)
        if root is None:
            raise UsageError(f"{cid} is no file of several blocks; export it without --unixfs")
        return root

    async def export_unixfs(self, root: ContentHash, *, local_only: bool = False) -> AsyncIterator[bytes]:
        """The archive of a file for IPFS tools, in parts: its UnixFS nodes and its chunks; as ``export``."""
        yield car_header([PbCid(root)])
        for number, block in enumerate(unixfs_blocks(root, self._get_node)):
            if section := _section(*block, local_only=local_only):
                yield section
            if number % BLOCKS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _get_node(self, digest: ContentHash) -> bytes | None:
        node = self._unixfs.table.node(digest)
        return self._get(Cid(Codec.RAW, digest)) if node is None else node

    async def take_in(self, parts: AsyncGenerator[bytes, None], pin: str | None) -> dict[str, Any]:
        """Store an archive's blocks, each verified, and pin its roots: under their CIDs, or the one root as ``pin``.

        Raises UsageError naming the block that is wrong; those before it are stored and collected in time. Raises
        StoreFull.
        """
        reader = CarReader()
        with self._blobs.hold() as hold:
            async with aclosing(parts), storing(self._blobs, self.aside) as batches:
                async for part in parts:
                    hold.renew()
                    for cid, data in reader.add(part):
                        await batches.take({cid.digest: data})
                reader.finish()
            if pin is not None and len(reader.roots) != 1:
                raise UsageError(f"the archive has {len(reader.roots)} roots; a name can pin one")
            for root in reader.roots:
                self._pinning.set(str(root) if pin is None else pin, root)
        # What was here before and is not in the archive is under no hold: it stays only once the pins are there.
        missing = sum([await self._missing(root) for root in reader.roots])
        return {"roots": [str(root) for root in reader.roots], "blocks": reader.blocks, "missing": missing}


def _section(name: Cid | PbCid, data: bytes | None, *, local_only: bool) -> bytes:
    """Of an archive, nothing for a block that is not here and may be left out; else raises Refused."""
    if data is not None:
        return car_section(name, data)
    if local_only:
        return b""
    raise Refused(ErrorCode.NOT_AVAILABLE, f"{name} has gone while it was exported; try again")
