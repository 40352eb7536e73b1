"""hashfs 0.7 (Python): content in files named by SHA-256, without any fsync; run by an interpreter that has it.

``python peer_hashfs.py DIRECTORY COUNT SIZE MIB FILE_MIB`` prints seconds for each import; see blobs_data.py.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path

from blobs_data import large_file, small_and_large
from hashfs import HashFS


def run(directory: Path, count: int, size: int, mib: int, file_mib: int) -> dict[str, float]:
    small, large = small_and_large(count, size, mib)
    file = large_file(directory, file_mib)
    store = HashFS(str(directory / "store"), depth=2, width=2, algorithm="sha256")
    store.put(io.BytesIO(b"warm up"))

    def add_all(items: list[bytes]) -> float:
        started = time.perf_counter()
        for data in items:
            store.put(io.BytesIO(data))
        return time.perf_counter() - started

    taken = {"small_s": add_all(small), "mib_s": add_all(large)}
    started = time.perf_counter()
    store.put(str(file))
    taken["file_s"] = time.perf_counter() - started
    return taken | {"small_again_s": add_all(small), "mib_again_s": add_all(large)}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(json.dumps(run(Path(arguments[0]), *map(int, arguments[1:]))), flush=True)
