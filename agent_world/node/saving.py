"""A home's world saved as a folder, and what a folder holds put back into a home (Gap 4)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from agent_world.node.stopped import StoppedHome
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from agent_world.store.world_dir import Restored, load_from_dir, save_to_dir
from agent_world.wire.block import Event
from agent_world.wire.ids import U64
from agent_world.world.genesis import genesis_hash
from agent_world.world.journal import assemble_journal, event_root
from agent_world.world.saved_world import SavedHead

Progress = Callable[[int, int], None]
"""Told (done, of how many)."""
BLOBS_AT_ONCE = 512
"""Put back in one transaction."""


def save_home(path: Path, directory: Path, progress: Progress) -> tuple[SavedHead, int]:
    """Save the world at the committed height of a home, whether a node runs there or not; the head, bytes of content.

    Raises HomeError, DataError for what is damaged in the home.
    """
    with StoppedHome(path, beside_node=True) as home:
        base = home.chain.base_height
        events: list[Event] = []
        for height in range(base, home.height + 1):
            stored = home.stored(height)
            if stored is not None:  # none at height 0
                events += assemble_journal(stored.header.journal_ref, height, home.blobs.get)
            progress(height - base + 1, home.height - base + 1)
        head = SavedHead(
            world_id=home.genesis.world_id,
            genesis_hash=genesis_hash(home.genesis),
            height=U64(home.height),
            block_hash=home.head.block_hash,
            state_root=home.head.state_root,
            first_event_id=events[0].event_id if events else U64(0),
            events=U64(len(events)),
            event_root=event_root(events),
        )
        return head, save_to_dir(directory, head, home.blobs.get, events)


def restore(directory: Path) -> Restored:
    """The world of a folder; raises DataError."""
    return load_from_dir(directory, time.time_ns() // 1_000_000)


def put_back(restored: Restored, path: Path) -> int:
    """Store the parts of the state in a home that no node runs, in place of damaged ones; how many were not there.

    Raises HomeError, also for a home of another world. Nothing else in the home is changed.
    """
    with Home.open(path, restored.world.head.genesis_hash) as home:
        blobs = LocalCasStore(home)
        parts = list(restored.world.blobs.items())
        missing = 0
        for start in range(0, len(parts), BLOBS_AT_ONCE):
            group = dict(parts[start : start + BLOBS_AT_ONCE])
            missing += len(group) - len(blobs.get_many(group))
            blobs.put_many(group.values(), kept=True)
        return missing
