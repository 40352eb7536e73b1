"""iroh 0.35 (Rust) as a store: one node in this process; run as a script by an interpreter that has ``iroh``.

``python peer_iroh_blobs.py DIRECTORY COUNT SIZE MIB FILE_MIB`` prints seconds for each import; see blobs_data.py. Blobs
of 1 MiB come from files, written before the clock runs: its binding takes seconds to hand over as many bytes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import iroh
from blobs_data import large_file, small_and_large, written
from peer_iroh import AT_ONCE, Quiet, node


async def run(directory: Path, count: int, size: int, mib: int, file_mib: int) -> dict[str, float]:
    iroh.iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())
    small, large = small_and_large(count, size, mib)
    files = written(directory / "large", large)
    file = large_file(directory, file_mib)
    store = await node(directory / "store")
    blobs = store.blobs()
    await blobs.add_bytes(b"warm up")
    turns = asyncio.Semaphore(AT_ONCE)

    tag: Any = iroh.SetTagOption.auto()

    async def add(item: bytes | Path) -> None:
        async with turns:
            if isinstance(item, bytes):
                await blobs.add_bytes(item)
            else:
                await blobs.add_from_path(str(item), False, tag, iroh.WrapOption.no_wrap(), Quiet())

    async def add_all(items: Sequence[bytes | Path]) -> float:
        started = time.perf_counter()
        await asyncio.gather(*map(add, items))
        return time.perf_counter() - started

    taken = {"small_s": await add_all(small), "mib_s": await add_all(files), "file_s": await add_all([file])}
    taken |= {"small_again_s": await add_all(small), "mib_again_s": await add_all(files)}
    await store.node().shutdown()
    return taken


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(json.dumps(asyncio.run(run(Path(arguments[0]).resolve(), *map(int, arguments[1:])))), flush=True)
