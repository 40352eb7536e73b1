"""Garbage collection in one call, for programs that open the store of a home themselves (``Home.shared``).

A running node collects in small steps instead (``node/collecting``).
"""

from __future__ import annotations

from collections.abc import Iterator

from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import last_state
from agent_world.store.collector import Collector
from agent_world.store.home import Home


def prune_orphan_blobs(home: Home, blobs: LocalCasStore) -> int:
    """Remove exactly what ``audit_file_index`` calls orphans; bytes freed.

    Raises Refused (ERR_BUSY) while another process collects.
    """
    return _prune(home, blobs, None)


def prune_unpinned(home: Home, blobs: LocalCasStore, max_bytes: int) -> int:
    """Remove what no root reaches, oldest first, until all that is not the chain's has at most ``max_bytes``.

    Bytes freed; what pins, files and the world reach stays, however much it is. Raises as ``prune_orphan_blobs``.
    """
    return _prune(home, blobs, max_bytes)


def _prune(home: Home, blobs: LocalCasStore, down_to_bytes: int | None) -> int:
    now_ms = blobs.wall_ms()
    collector = Collector(home, blobs, lambda: last_state(home, blobs))
    with collector.alone():
        _run(collector.mark(now_ms))
        _run(collector.note(now_ms))
        return sum(step.size_bytes for step in collector.sweep(now_ms, 0, down_to_bytes=down_to_bytes))


def _run(steps: Iterator[object]) -> None:
    for _ in steps:
        pass
