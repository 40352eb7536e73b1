"""Ours of rows 2 to 4, in a process of its own: the blob store of a new home.

``python -m bench.blobs_node DIRECTORY COUNT SIZE MIB FILE_MIB`` prints seconds for each import; see blobs_data.py.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.node.large import LargeContent
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from bench.blobs_data import MIB, large_file, small_and_large

GENESIS = hash32(b"bench")


async def parts_of(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as source:
        while part := source.read(MIB):
            yield part
            await trio.lowlevel.checkpoint()


def run(directory: Path, count: int, size: int, mib: int, file_mib: int) -> dict[str, float]:
    small, large = small_and_large(count, size, mib)
    file = large_file(directory, file_mib)
    key = KeyPair(bytes(range(32)))
    Home.create(
        directory / "home", genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=key, validator_key=None
    )
    with Home.open(directory / "home", GENESIS) as home:
        store = LocalCasStore(home)
        content = LargeContent(store, None)  # type: ignore[arg-type]  # nothing is fetched
        store.put(b"warm up")

        def add_all(items: list[bytes]) -> float:
            started = time.perf_counter()
            store.put_many(items)
            return time.perf_counter() - started

        taken = {"small_s": add_all(small), "mib_s": add_all(large)}
        started = time.perf_counter()
        trio.run(content.store, parts_of(file))
        taken["file_s"] = time.perf_counter() - started
        return taken | {"small_again_s": add_all(small), "mib_again_s": add_all(large)}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(json.dumps(run(Path(arguments[0]), *map(int, arguments[1:]))), flush=True)
