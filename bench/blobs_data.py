"""What rows 2 to 4 import, the same for each system: COUNT blobs of SIZE bytes, MIB of 1 MiB, one file."""

from __future__ import annotations

import os
import random
from pathlib import Path

MIB = 1 << 20


def small_and_large(count: int, size: int, mib: int) -> tuple[list[bytes], list[bytes]]:
    source = random.Random(count)
    return [source.randbytes(size) for _ in range(count)], [source.randbytes(MIB) for _ in range(mib)]


def large_file(directory: Path, file_mib: int) -> Path:
    file = directory / "file"
    source = random.Random(file_mib)
    with file.open("wb") as out:
        for _ in range(file_mib):
            out.write(source.randbytes(MIB))
    os.sync()  # or whoever syncs what it stores would pay for this too
    return file


def written(directory: Path, items: list[bytes]) -> list[Path]:
    """The same as files, for systems that take those."""
    directory.mkdir()
    files = [directory / str(number) for number in range(len(items))]
    for file, data in zip(files, items, strict=True):
        file.write_bytes(data)
    os.sync()
    return files
