"""The parts of a node that keep content: files by their paths and as IPFS tools know them, pins, garbage, archives, the
slow reading of all, the watch of the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from agent_world.node.archives import Archives
from agent_world.node.collecting import Collecting
from agent_world.node.disk_watch import DiskWatch
from agent_world.node.files import NodeFiles
from agent_world.node.pinning import Pinning
from agent_world.node.scrub import Scrubber
from agent_world.node.tree_fetch import TreeFetcher
from agent_world.node.unixfs_views import UnixfsViews
from agent_world.store.file_index import FileIndex
from agent_world.store.home import Home
from agent_world.store.pins import PinTable
from agent_world.store.unixfs import UnixfsTable

if TYPE_CHECKING:
    from agent_world.node.node import Node


@attrs.frozen(slots=True, kw_only=True)
class Keeping:
    """These parts of one node."""

    disk: DiskWatch
    unixfs: UnixfsViews
    collecting: Collecting
    scrub: Scrubber
    pinning: Pinning
    files: NodeFiles
    archives: Archives


def keep_content(node: Node, home: Home) -> Keeping:
    """Of a node whose ledger, sources and healer are built."""
    storage = node.settings.config.storage
    collecting = Collecting(home, node.blobs, node.ledger, storage, node.clock)
    trees = TreeFetcher(node.blobs, node.client, node.large, node.fetcher.peers, node.clock)
    pinning = Pinning(PinTable(home), node.blobs, trees, node.clock)
    files = NodeFiles(FileIndex(home, node.blobs), node.blobs, node.large, trees, pinning, collecting)
    files.reader = node.reader.read
    files.lost = node.healer.lost
    scrub = Scrubber(home, node.blobs, node.healer, storage, node.clock)
    collecting.lost = scrub.lost
    unixfs = UnixfsViews(node.blobs, UnixfsTable(home))
    return Keeping(
        disk=DiskWatch(home.database.faults, node.blobs, node.clock),
        unixfs=unixfs,
        collecting=collecting,
        scrub=scrub,
        pinning=pinning,
        files=files,
        archives=Archives(node.blobs, trees, pinning, unixfs),
    )
