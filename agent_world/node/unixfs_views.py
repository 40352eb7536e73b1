"""Files as IPFS tools know them: made when somebody asks, and for all named files while this node answers bitswap."""

from __future__ import annotations

from typing import Any, Final

import structlog
import trio

from agent_world.distfs.manifest import manifest_size
from agent_world.distfs.unixfs import ipfs_name, unixfs_nodes
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError
from agent_world.node.counters import Counters
from agent_world.store.blobs import LocalCasStore
from agent_world.store.unixfs import UnixfsTable
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.limits import MIB

_log = structlog.get_logger("agent_world.storage")

NODES_AT_ONCE: Final = 32
"""Kept in one transaction, 1.4 GiB of a file; others have their turn after every node."""
FILE_BYTES_MAX: Final = 1024 * 1024 * MIB
"""Larger files have no second name. A gibibyte takes 45 ms, and three small blobs with the same link again and again
are the manifest of a file of petabytes."""


class UnixfsViews:
    """Of one node's store."""

    def __init__(self, blobs: LocalCasStore, table: UnixfsTable) -> None:
        self._blobs = blobs
        self.table = table
        self.counters = Counters()

    async def name(self, cid: Cid) -> str | None:
        """The CID by which IPFS tools read content as a file; None for what is no file, or not wholly known here."""
        return ipfs_name(cid, None if cid.codec is Codec.RAW else await self.root(cid))

    async def root(self, cid: Cid) -> ContentHash | None:
        """The UnixFS root of a file, whose manifest is stored here; None as ``name``."""
        view = self.table.view(cid.digest)
        if view is not None:
            return view.root
        try:
            size = manifest_size(cid, self._blobs.get(cid.digest))
            if size is not None and size <= FILE_BYTES_MAX:
                return await self._make(cid)
            self.counters.add("unixfs.too_large", size is not None)
            self.table.note(cid.digest, None)
        except DecodeError:
            self.table.note(cid.digest, None)  # anybody may call any bytes dag-cbor; nobody need look again
        except (BlobNotFound, BlobHashMismatch):
            self.counters.add("unixfs.incomplete")  # a node of the manifest is still to come, or to be healed
        return None

    async def _make(self, cid: Cid) -> ContentHash:
        batch: list[tuple[ContentHash, bytes]] = []
        root = cid.digest
        for node, data in unixfs_nodes(cid, lambda name: self._blobs.get(name.digest)):
            root = node.digest
            batch.append((node.digest, data))
            if len(batch) == NODES_AT_ONCE:
                self.table.add(cid.digest, batch)
                batch = []
            await trio.lowlevel.checkpoint()
        self.table.add(cid.digest, batch)
        self.table.note(cid.digest, root)
        self.counters.add("unixfs.files_made")
        return root

    async def look(self) -> None:
        """Make the nodes of every file that a path, a pin or the world names and that has none yet."""
        for page in self.table.unseen():
            for cid in page:
                await self.root(cid)
            await trio.lowlevel.checkpoint()

    async def run(self, every_s: float) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await trio.sleep(every_s)

    async def with_name(self, shown: dict[str, Any], cid: Cid) -> dict[str, Any]:
        """What is shown of content, with its name for IPFS tools if it has one."""
        name = await self.name(cid)
        return shown if name is None else {**shown, "ipfs_cid": name}
